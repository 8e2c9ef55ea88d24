//! `eventodb context`: names for servers and tokens.

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use eventodb_client::Client;
use eventodb_protocol::shown;
use serde_json::json;

use super::connection::Connection;
use super::output::{Output, finish};
use crate::contexts::{Context, Contexts, full};
use crate::usage::{Exit, Refused, Usage};

/// Options of `eventodb context`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The contexts are in $XDG_CONFIG_HOME/eventodb/contexts.json (~/.config if that is not set), readable by you only. A flag takes \
precedence over a variable, and both over a context. A context counts as a whole: with --url or EVENTODB_URL none is used, so \
that its token is not sent to another server.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    /// Print the result as JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Give a server and a token a name. The first one is used at once.
    Add {
        /// The name.
        name: String,
        /// Replace a context of this name.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        connection: Box<Connection>,
    },
    /// Use a context wherever no other is named.
    Use {
        /// Its name.
        #[arg(required_unless_present = "none")]
        name: Option<String>,
        /// Use none.
        #[arg(long, conflicts_with = "name")]
        none: bool,
    },
    /// List the contexts, without their tokens.
    List,
    /// Forget a context, and the token in it.
    Remove {
        /// Its name.
        name: String,
    },
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut output = Output::new(args.json);
    let result = act(args.command, &mut output);
    finish(result, output)
}

fn act(command: Command, output: &mut Output) -> anyhow::Result<()> {
    let mut contexts = Contexts::read()?;
    match command {
        Command::List => return list(&contexts, output),
        Command::Add { name, force, connection } => {
            check_name(&name)?;
            if contexts.contexts.contains_key(&name) && !force {
                let error = anyhow::anyhow!("there is a context {name} already; say --force to replace it");
                return Err(Refused::new(Exit::Failed, error).into());
            }
            contexts.contexts.insert(name.clone(), absolute(connection.given_context()?)?);
            contexts.current.get_or_insert(name);
        }
        Command::Use { name: Some(name), .. } => {
            contexts.find(Some(&name))?;
            contexts.current = Some(name);
        }
        Command::Use { name: None, .. } => contexts.current = None,
        Command::Remove { name } => {
            contexts.contexts.remove(&name).ok_or_else(|| contexts.unknown(&name))?;
            contexts.current = contexts.current.take().filter(|current| *current != name);
        }
    }
    contexts.write()?;
    let current = contexts.current.clone();
    output.value(&json!({ "current": current }), || match &current {
        Some(name) => format!("the context {name} is used"),
        None => "no context is used".to_owned(),
    })
}

/// A name is shown, and typed: it has neither spaces nor control characters.
fn check_name(name: &str) -> Result<(), Usage> {
    let is_good = !name.is_empty()
        && name.len() <= 64
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if is_good {
        Ok(())
    } else {
        Err(Usage::new("a context's name has letters, digits, `-`, `_` and `.`, at most 64 bytes"))
    }
}

fn absolute(context: Context) -> anyhow::Result<Context> {
    let file = |file: Option<std::path::PathBuf>| file.as_deref().map(Path::new).map(full).transpose();
    Ok(Context {
        token_file: file(context.token_file)?,
        ca_file: file(context.ca_file)?,
        cert_file: file(context.cert_file)?,
        key_file: file(context.key_file)?,
        ..context
    })
}

fn list(contexts: &Contexts, output: &mut Output) -> anyhow::Result<()> {
    let is_current = |name: &str| contexts.current.as_deref() == Some(name);
    let token = |context: &Context| match (&context.token, &context.token_file) {
        (_, Some(file)) => format!("in {}", file.display()),
        (Some(_), None) => "in this file".to_owned(),
        (None, None) => "none".to_owned(),
    };
    // Earlier versions took one with a password.
    let url = |context: &Context| match Client::check_url(&context.url) {
        Ok(()) => context.url.clone(),
        Err(_) => shown::url(&context.url),
    };
    let each = contexts.contexts.iter();
    let json: Vec<_> = each
        .clone()
        .map(|(name, context)| json!({ "name": name, "url": url(context), "current": is_current(name), "token": token(context) }))
        .collect();
    let row = |(name, context): (&String, &Context)| {
        let used = if is_current(name) { "yes" } else { "" };
        vec![name.clone(), url(context), token(context), used.to_owned()]
    };
    output.table(&json.into(), &["NAME", "URL", "TOKEN", "USED"], &each.map(row).collect::<Vec<_>>())
}
