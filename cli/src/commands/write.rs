//! `eventodb write`: writes one message.

use std::io::Read as _;
use std::process::ExitCode;

use anyhow::Context as _;
use eventodb_client::{Expected, NewMessage};
use eventodb_protocol::typed;
use serde_json::json;

use super::connection::Connection;
use super::output::{Output, finish};
use crate::usage::Usage;

/// Options of `eventodb write`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stream to write to.
    stream: String,
    /// The message's type.
    #[arg(value_name = "TYPE")]
    kind: String,
    /// The message's data: a JSON object, or `-` for standard input.
    #[arg(default_value = "{}")]
    data: String,
    /// The message's metadata: a JSON object.
    #[arg(long)]
    metadata: Option<String>,
    /// The message's id; generated if left out. Writing the same message with the same id again does nothing.
    #[arg(long, value_parser = typed::id)]
    id: Option<uuid::Uuid>,
    /// The expected version of the stream: a number, `any`, `noStream` or `exists`.
    #[arg(long, default_value = "any", value_parser = parse_expected, allow_hyphen_values = true)]
    expected_version: Expected,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut output = Output::new(args.json);
    let data = if args.data == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read the data")?;
        text
    } else {
        args.data
    };
    let mut message = NewMessage::from_json(args.kind, &data, args.metadata.as_deref()).map_err(Usage::of)?;
    if let Some(id) = args.id {
        message = message.with_id(id);
    }
    let written = args.connection.connect().await?.write(&args.stream, &message, args.expected_version).await?;
    let value =
        json!({"id": message.id.to_string(), "position": written.position, "globalPosition": written.global_position});
    let result = output.value(&value, || {
        format!("{}@{} (global position {})", args.stream, written.position, written.global_position)
    });
    finish(result, output)
}

fn parse_expected(text: &str) -> Result<Expected, String> {
    match text {
        "any" => Ok(Expected::Any),
        "noStream" | "-1" => Ok(Expected::NoStream),
        "exists" => Ok(Expected::Exists),
        version => match version.parse() {
            Ok(version) if version >= 0 => Ok(Expected::Version(version)),
            _ => Err("expected a version from 0, any, noStream or exists".to_owned()),
        },
    }
}
