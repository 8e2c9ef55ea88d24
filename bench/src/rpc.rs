//! Single calls around a load.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::wire::{Address, Connection};

/// The result of a call, whose body is a method and its arguments.
pub(crate) async fn call(address: &Address, body: &Value) -> anyhow::Result<Value> {
    let mut connection = Connection::open(address).await?;
    let reply = connection.exchange(&address.call(&body.to_string()).bytes).await?;
    Ok(serde_json::from_slice(reply.success()?)?)
}

pub(crate) async fn knows(address: &Address, method: &str) -> anyhow::Result<bool> {
    // Without arguments the call is refused in any case; the error code tells why.
    let mut connection = Connection::open(address).await?;
    let reply = connection.exchange(&address.call(&json!([method]).to_string()).bytes).await?;
    Ok(reply.status != 404 && memchr::memmem::find(reply.body, b"METHOD_NOT_FOUND").is_none())
}

pub(crate) async fn head(address: &Address) -> anyhow::Result<u64> {
    let mut connection = Connection::open(address).await?;
    let request = address.call(&json!(["category.get", "", {"position": i64::MAX, "batchSize": 1}]).to_string());
    let reply = connection.exchange(&request.bytes).await?;
    // A token that is limited to categories may not read all of them.
    if reply.status != 403 {
        reply.success()?;
        if let Some(head) = reply.header("x-eventodb-head") {
            return Ok(head.parse()?);
        }
    }
    // Positions without gaps: the number of messages is the head.
    let info = call(address, &json!(["ns.info", address.namespace()])).await?;
    info["messageCount"].as_u64().context("the server does not tell how many messages it has")
}

/// Makes a namespace; returns its address.
pub(crate) async fn create_namespace(address: &Address, id: &str) -> anyhow::Result<Address> {
    let created = call(address, &json!(["ns.create", id])).await.context("cannot make a namespace")?;
    let token = created["token"].as_str().context("a new namespace without a token")?;
    Ok(Address { token: Some(token.to_owned()), ..address.clone() })
}
