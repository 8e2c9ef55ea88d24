//! `ns.create`: makes a namespace and tells its token, this once.

use axum::response::Response;
use eventodb_protocol::limits::DESCRIPTION_BYTES;
use eventodb_protocol::reply::NamespaceCreated;
use eventodb_protocol::request::{Call, Options, check_object};
use eventodb_protocol::{Limits, Token};
use eventodb_store::model::NewNamespace;

use super::context::Context;
use crate::api::errors::Failure;
use crate::api::{auth, reply};

pub(super) async fn answer(context: &mut Context<'_>, call: &mut Call<'_>) -> Result<Response, Failure> {
    auth::administrator(context.state, context.credentials).await?;
    let (new, token) = parse(call, context.limits())?;
    let created = context.state.store.create(new).await?;
    Ok(reply::json(&NamespaceCreated {
        namespace: created.name.to_string(),
        token: token.to_string(),
        created_at: created.created_at,
    }))
}

const OPTIONS: &[&str] = &["description", "token", "metadata"];

fn parse(call: &mut Call<'_>, limits: &Limits) -> Result<(NewNamespace, Token), Failure> {
    let name = call.name("namespace", limits)?;
    let options = call.options(OPTIONS)?;
    let token = match options.string("token")? {
        None => Token::generate(&name),
        Some(text) => text
            .parse()
            .ok()
            .filter(|token: &Token| token.namespace() == name)
            .ok_or_else(|| Failure::invalid("token must be a token of this namespace"))?,
    };
    let metadata = options.object("metadata")?.unwrap_or("{}");
    check_object("metadata", metadata, limits)?;
    let new = NewNamespace {
        token_hash: token.hash(),
        description: description(&options)?,
        metadata: metadata.to_owned(),
        name: name.into_owned(),
    };
    Ok((new, token))
}

fn description(options: &Options<'_>) -> Result<String, Failure> {
    let description = options.string("description")?.unwrap_or_default();
    if description.len() > DESCRIPTION_BYTES {
        let bytes = description.len();
        return Err(Failure::invalid(format!(
            "description must be at most {DESCRIPTION_BYTES} bytes of UTF-8, got {bytes}"
        )));
    }
    // PostgreSQL stores no such text.
    if description.contains('\0') {
        return Err(Failure::invalid("description must not contain U+0000"));
    }
    Ok(description.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: &str) -> Result<(NewNamespace, Token), Failure> {
        parse(&mut Call::parse(body).expect("a call"), &Limits::default())
    }

    #[test]
    fn a_given_token_must_name_the_namespace() {
        let token = Token::generate("shop");
        let (new, same) = parsed(&format!(r#"["ns.create","shop",{{"token":"{token}"}}]"#)).expect("a namespace");
        assert_eq!((new.name.as_str(), same.as_str()), ("shop", token.as_str()));
        assert!(parsed(&format!(r#"["ns.create","other",{{"token":"{token}"}}]"#)).is_err());
        assert!(parsed(r#"["ns.create","shop",{"token":"x"}]"#).is_err());
        assert!(parsed(r#"["ns.create",""]"#).is_err());
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
