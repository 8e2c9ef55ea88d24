//! The arguments of `token.create`, `token.list`, `token.revoke` and `token.rotate`.

use std::time::Duration;

use uuid::Uuid;

use super::namespace::{GivenToken, description, given_token};
use super::{Call, Options, message_id};
use crate::limits::{GRACE_DEFAULT_MS, GRACE_MAX_MS};
use crate::rights::{Categories, MOST_CATEGORIES};
use crate::spelling::{Shown, nearest};
use crate::{Error, Grant, Limits, Right, Timestamp, Token, name};

const CREATE_OPTIONS: &[&str] = &["namespace", "token", "description", "rights", "categories", "expiresAt"];
const LIST_OPTIONS: &[&str] = &["namespace"];
const ROTATE_OPTIONS: &[&str] = &["token", "graceMs"];

/// A token to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateToken {
    /// The token, which names its namespace; generated if none was given.
    pub token: Token,
    /// Free text; empty if none was given.
    pub description: String,
    /// What it is to allow.
    pub grant: Grant,
    /// When it is to expire.
    pub expires_at: Option<Timestamp>,
}

/// Which tokens to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListTokens {
    /// Those of this namespace.
    pub namespace: String,
}

/// The token that is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokeToken {
    /// Its public name.
    pub id: Uuid,
}

/// A token that is to be replaced by another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotateToken {
    /// Its public name; `None` is the one that the call comes with.
    pub id: Option<Uuid>,
    /// The token that takes its place.
    pub token: GivenToken,
    /// How long it still opens its namespace.
    pub grace: Duration,
}

impl CreateToken {
    /// Reads the arguments of `token.create`: `options`. The namespace is `own` if none is named.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming the argument.
    pub fn parse(call: &mut Call<'_>, own: &str, limits: &Limits) -> Result<Self, Error> {
        let options = call.options(CREATE_OPTIONS)?;
        let namespace = namespace(&options, own, limits)?;
        let categories = match options.strings("categories", MOST_CATEGORIES)? {
            None => Categories::All,
            Some(names) => Categories::only(names.into_iter().map(Into::into), limits)?,
        };
        let rights = options.strings("rights", Right::ALL.len())?.unwrap_or_default();
        let rights = rights.iter().map(|name| right(name)).collect::<Result<_, _>>()?;
        Ok(Self {
            token: given_token(&options)?.of(&namespace)?,
            description: description(&options)?.unwrap_or_default(),
            grant: Grant::new(rights, categories)?,
            expires_at: options.time("expiresAt")?,
        })
    }
}

impl ListTokens {
    /// Reads the arguments of `token.list`: `options`. The namespace is `own` if none is named.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming the argument.
    pub fn parse(call: &mut Call<'_>, own: &str, limits: &Limits) -> Result<Self, Error> {
        Ok(Self { namespace: namespace(&call.options(LIST_OPTIONS)?, own, limits)? })
    }
}

impl RevokeToken {
    /// Reads the arguments of `token.revoke`: `id`.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming the argument.
    pub fn parse(call: &mut Call<'_>) -> Result<Self, Error> {
        Ok(Self { id: message_id("id", &call.string("id")?)? })
    }
}

impl RotateToken {
    /// Reads the arguments of `token.rotate`: `id or null, options`.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming the argument.
    pub fn parse(call: &mut Call<'_>) -> Result<Self, Error> {
        let id = call.optional().map(|id| message_id("id", &super::string("id", id)?)).transpose()?;
        let options = call.options(ROTATE_OPTIONS)?;
        let grace = match options.integer("graceMs")? {
            None => GRACE_DEFAULT_MS,
            Some(grace) => u64::try_from(grace)
                .ok()
                .filter(|grace| *grace <= GRACE_MAX_MS)
                .ok_or_else(|| Error::invalid(format!("graceMs must be between 0 and {GRACE_MAX_MS}")))?,
        };
        Ok(Self { id, token: given_token(&options)?, grace: Duration::from_millis(grace) })
    }
}

fn namespace(options: &Options<'_>, own: &str, limits: &Limits) -> Result<String, Error> {
    let Some(namespace) = options.string("namespace")? else { return Ok(own.to_owned()) };
    name::check("namespace", &namespace, limits)?;
    Ok(namespace.into_owned())
}

fn right(name: &str) -> Result<Right, Error> {
    Right::named(name).ok_or_else(|| {
        let nearest = nearest(name, &Right::ALL.map(Right::name)).unwrap_or_default();
        Error::invalid(format!("rights must not have {}, which is unknown; did you mean {nearest}?", Shown(name)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(options: &str) -> Result<CreateToken, Error> {
        let body = format!(r#"["token.create",{options}]"#);
        CreateToken::parse(&mut Call::parse(&body).expect("a call"), "shop", &Limits::default())
    }

    fn rotate(arguments: &str) -> Result<RotateToken, Error> {
        RotateToken::parse(&mut Call::parse(&format!(r#"["token.rotate"{arguments}]"#)).expect("a call"))
    }

    #[test]
    fn a_new_token_has_what_was_asked_for_and_no_more() {
        let new = create(
            r#"{"rights":["read","write"],"categories":["order*","account"],"expiresAt":"2030-01-01T00:00:00Z"}"#,
        )
        .expect("a token");
        assert_eq!(new.token.namespace(), "shop");
        assert_eq!(new.grant.rights().iter().map(Right::name).collect::<Vec<_>>(), ["read", "write"]);
        assert!(new.grant.allows(Right::Read, "orders") && !new.grant.allows(Right::Read, "accounts"));
        assert_eq!(new.expires_at.expect("a time").to_string(), "2030-01-01T00:00:00.000000Z");
        let other = create(r#"{"namespace":"other","rights":["admin"]}"#).expect("a token");
        assert_eq!((other.token.namespace(), other.expires_at), ("other", None));
    }

    #[test]
    fn errors_name_the_option() {
        let foreign = format!(r#"{{"rights":["read"],"token":"{}"}}"#, Token::generate("other"));
        for (options, message) in [
            ("null", "rights must name at least one"),
            (r#"{"rights":[]}"#, "rights must name at least one"),
            (r#"{"rights":["raed"]}"#, r#"rights must not have "raed", which is unknown; did you mean read?"#),
            (r#"{"rights":"read"}"#, "rights must be an array"),
            (r#"{"rights":["read","read","read","read","read"]}"#, "rights must have at most 4"),
            (r#"{"rights":["read"],"categories":[]}"#, "categories must name 1 to 100"),
            (r#"{"rights":["read"],"categories":["a","*"]}"#, r#"categories must not contain "*" alone"#),
            (r#"{"rights":["read"],"categories":["a-b"]}"#, "categories must not contain names with"),
            (r#"{"rights":["admin"],"categories":["a"]}"#, "the right admin cannot be limited"),
            (r#"{"rights":["read"],"expiresAt":"tomorrow"}"#, "expiresAt: expected an RFC 3339 time"),
            (
                r#"{"rights":["read"],"expiresAt":"9999-12-31T23:59:59Z"}"#,
                "expiresAt: a time is at most 9999-12-30T22:00",
            ),
            (r#"{"rights":["read"],"expiresAt":1}"#, "expiresAt must be a string"),
            (r#"{"rights":["read"],"namespace":""}"#, "namespace must be a non-empty string"),
            (r#"{"rights":["read"],"token":"x"}"#, "token must have the form"),
            (&foreign, "token must be a token of this namespace"),
            (r#"{"right":["read"]}"#, r#"options must not have "right""#),
        ] {
            let error = create(options).expect_err(options);
            assert!(error.message.starts_with(message), "{options}: {}", error.message);
        }
    }

    #[test]
    fn a_rotation_has_a_grace_of_at_most_seven_days() {
        for (arguments, grace) in [
            ("", Some(300_000)),
            (",null", Some(300_000)),
            (r#",null,{"graceMs":0}"#, Some(0)),
            (r#","6f9619ff-8b86-d011-b42d-00c04fc964ff",{"graceMs":604800000}"#, Some(604_800_000)),
            (r#",null,{"graceMs":604800001}"#, None),
            (r#",null,{"graceMs":-1}"#, None),
            (r#","x""#, None),
            (",7", None),
        ] {
            let rotation = rotate(arguments);
            assert_eq!(rotation.ok().map(|rotation| rotation.grace), grace.map(Duration::from_millis), "{arguments}");
        }
        assert_eq!(rotate(",null").expect("a rotation").id, None);
    }
}
