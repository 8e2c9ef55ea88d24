//! `category.get`: the messages of categories, in global order.

use axum::response::Response;
use eventodb_protocol::request::{Call, Read};
use eventodb_protocol::wire::Form;

use super::context::Context;
use super::page;
use crate::api::errors::Failure;

pub(super) async fn answer(context: &mut Context<'_>, call: &mut Call<'_>) -> Result<Response, Failure> {
    let log = context.log().await?;
    let read = Read::category_get(call, context.limits())?;
    page::answer(context, &log, read, Form::Category).await
}
