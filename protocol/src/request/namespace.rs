//! The arguments of `ns.create` and `ns.update`.

use super::{Call, Options, check_object};
use crate::limits::DESCRIPTION_BYTES;
use crate::reply::Quota;
use crate::{Error, Limits, Token};

const CREATE_OPTIONS: &[&str] = &["description", "token", "metadata"];
const UPDATE_OPTIONS: &[&str] = &["description", "protected", "quota"];
const QUOTA_MEMBERS: &[&str] = &["messages", "bytes"];

/// A namespace to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateNamespace {
    /// Its name.
    pub namespace: String,
    /// Its first token, of this namespace; generated if none was given.
    pub token: Token,
    /// Free text; empty if none was given.
    pub description: String,
    /// A compact JSON object.
    pub metadata: String,
}

impl CreateNamespace {
    /// Reads the arguments of `ns.create`: `namespace, options`.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming the argument, or `PAYLOAD_TOO_LARGE`.
    pub fn parse(call: &mut Call<'_>, limits: &Limits) -> Result<Self, Error> {
        let namespace = call.name("namespace", limits)?.into_owned();
        let options = call.options(CREATE_OPTIONS)?;
        let metadata = options.object("metadata")?.unwrap_or("{}");
        check_object("metadata", metadata, limits)?;
        Ok(Self {
            token: given_token(&options)?.of(&namespace)?,
            description: description(&options)?.unwrap_or_default(),
            metadata: metadata.to_owned(),
            namespace,
        })
    }
}

/// What is to be changed about a namespace; what was left out stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateNamespace {
    /// Free text.
    pub description: Option<String>,
    /// Whether it can be neither deleted nor replaced.
    pub protected: Option<bool>,
    /// How much it may hold. A part that was left out, or is `null`, has no bound from then on.
    pub quota: Option<Quota>,
}

impl UpdateNamespace {
    /// Reads the arguments of `ns.update` behind the namespace: `options`.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming the argument.
    pub fn parse(call: &mut Call<'_>) -> Result<Self, Error> {
        let options = call.options(UPDATE_OPTIONS)?;
        let quota = options.object("quota")?.map(quota).transpose()?;
        Ok(Self { description: description(&options)?, protected: options.boolean("protected")?, quota })
    }
}

fn quota(text: &str) -> Result<Quota, Error> {
    let quota = Options::parse("quota", "quota.", text, QUOTA_MEMBERS)?;
    let part = |name: &str| match quota.integer(name)? {
        Some(negative) if negative < 0 => Err(Error::invalid(format!("quota.{name} must be 0 or more, or null"))),
        part => Ok(part),
    };
    Ok(Quota { messages: part("messages")?, bytes: part("bytes")? })
}

/// A token as a call gives it, before it is known for which namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenToken(Option<Token>);

impl GivenToken {
    /// The token, which must be one of this namespace. If none was given, it is generated.
    ///
    /// # Errors
    /// `INVALID_REQUEST`.
    pub fn of(self, namespace: &str) -> Result<Token, Error> {
        match self.0 {
            None => Ok(Token::generate(namespace)),
            Some(token) if token.namespace() == namespace => Ok(token),
            Some(_) => Err(Error::invalid("token must be a token of this namespace")),
        }
    }
}

/// The option `token`.
pub(super) fn given_token(options: &Options<'_>) -> Result<GivenToken, Error> {
    const FORM: &str = "token must have the form ns_<base64url of the namespace>_<64 hex digits>";
    let token = options.string("token")?.map(|text| text.parse().map_err(|_| Error::invalid(FORM)));
    token.transpose().map(GivenToken)
}

/// The option `description`: of a namespace or a token.
pub(super) fn description(options: &Options<'_>) -> Result<Option<String>, Error> {
    let Some(description) = options.string("description")? else { return Ok(None) };
    if description.len() > DESCRIPTION_BYTES {
        let bytes = description.len();
        return Err(Error::invalid(format!(
            "description must be at most {DESCRIPTION_BYTES} bytes of UTF-8, got {bytes}"
        )));
    }
    // PostgreSQL stores no such text.
    if description.contains('\0') {
        return Err(Error::invalid("description must not contain U+0000"));
    }
    Ok(Some(description.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: &str) -> Result<CreateNamespace, Error> {
        CreateNamespace::parse(&mut Call::parse(body).expect("a call"), &Limits::default())
    }

    #[test]
    fn a_given_token_must_name_the_namespace() {
        let token = Token::generate("shop");
        let new = parsed(&format!(r#"["ns.create","shop",{{"token":"{token}"}}]"#)).expect("a namespace");
        assert_eq!((new.namespace.as_str(), new.token.as_str()), ("shop", token.as_str()));
        assert!(parsed(&format!(r#"["ns.create","other",{{"token":"{token}"}}]"#)).is_err());
        assert!(parsed(r#"["ns.create","shop",{"token":"x"}]"#).is_err());
        assert!(parsed(r#"["ns.create",""]"#).is_err());
    }

    #[test]
    fn an_update_changes_what_it_names() {
        let update = |options: &str| {
            let body = format!(r#"["ns.update",{options}]"#);
            UpdateNamespace::parse(&mut Call::parse(&body).expect("a call"))
        };
        assert_eq!(update("{}"), Ok(UpdateNamespace::default()));
        assert_eq!(update(r#"{"protected":false,"quota":null}"#).expect("an update").protected, Some(false));
        let quota = |text: &str| update(&format!(r#"{{"quota":{text}}}"#)).map(|update| update.quota);
        assert_eq!(quota("{}"), Ok(Some(Quota::default())));
        let limited = Quota { messages: Some(7), bytes: None };
        assert_eq!(quota(r#"{"messages":7,"bytes":null}"#), Ok(Some(limited)));
        for bad in ["7", r#"{"messages":-1}"#, r#"{"bytes":1.5}"#, r#"{"Bytes":1}"#] {
            assert!(quota(bad).is_err(), "{bad}");
        }
        for bad in [r#"{"protected":1}"#, r#"{"protected":"true"}"#, r#"{"description":1}"#, r#"{"Protected":true}"#] {
            assert!(update(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_description_is_bounded() {
        let described = |text: &str| parsed(&format!(r#"["ns.create","shop",{{"description":"{text}"}}]"#));
        assert!(described(&"ä".repeat(512)).is_ok());
        assert!(described(&"ä".repeat(513)).is_err());
        assert!(described(r"a\u0000b").is_err());
        assert!(described(r"two\nlines").is_ok());
    }
}
