//! `eventodb read`: prints stored messages.

use std::process::ExitCode;

use anyhow::Context as _;
use eventodb_client::{CategoryQuery, Client, ConsumerGroup, Page, StreamQuery, StreamsQuery, Timestamp};
use eventodb_protocol::spelling;
use eventodb_protocol::typed::{id, whole};
use uuid::Uuid;

use super::connection::Connection;
use super::output::{Output, finish};
use super::{item, time};
use crate::usage::Usage;

/// Options of `eventodb read`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    what: What,
    /// From this position, inclusive. With a stream a position in the stream, otherwise a global position.
    #[arg(long, value_parser = whole(.., 1_000_i64))]
    from: Option<i64>,
    /// From the first message at or after this time: RFC 3339, or YYYY-MM-DD.
    #[arg(long, conflicts_with = "from", value_parser = time::parse)]
    since: Option<Timestamp>,
    /// Only the message with this id, whatever its stream.
    #[arg(long, conflicts_with_all = ["stream", "categories", "types", "correlation", "member", "from", "since", "until", "backward"], value_parser = id)]
    id: Option<Uuid>,
    /// Up to this position, inclusive.
    #[arg(long, value_parser = whole(.., 1_000_i64))]
    until: Option<i64>,
    /// Most messages to print.
    #[arg(long, short = 'n', default_value_t = 100, value_parser = whole(0.., 100_u64))]
    limit: u64,
    /// Newest first.
    #[arg(long)]
    backward: bool,
    /// Print JSON lines.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Which messages; `read` and `tail` share it.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct What {
    /// A stream. If left out, and --category too, all messages.
    #[arg(conflicts_with = "categories")]
    pub(super) stream: Option<String>,
    /// Categories, separated by commas.
    #[arg(long = "category", short = 'c', value_delimiter = ',', value_parser = item::parse)]
    categories: Vec<String>,
    /// Only these message types, separated by commas.
    #[arg(long = "type", short = 't', value_delimiter = ',', value_parser = item::parse)]
    types: Vec<String>,
    /// Only messages whose correlation stream is of this category.
    #[arg(long, conflicts_with = "stream")]
    correlation: Option<String>,
    #[command(flatten)]
    group: Group,
}

/// A member of a consumer group.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Group {
    /// Only streams of this member of a consumer group, counted from 0.
    #[arg(long, requires = "size", value_parser = whole(.., 0_i64))]
    member: Option<i64>,
    /// How many members the consumer group has.
    #[arg(long, requires = "member", value_parser = whole(.., 4_i64))]
    size: Option<i64>,
}

/// How a page is read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) from: Option<i64>,
    /// In place of `from`.
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<i64>,
    pub(super) limit: i64,
    pub(super) backward: bool,
    pub(super) wait: std::time::Duration,
}

impl Group {
    /// The named member, if any.
    ///
    /// # Errors
    /// A member outside its group.
    pub(super) fn member(self) -> Result<Option<ConsumerGroup>, Usage> {
        let (Some(member), Some(size)) = (self.member, self.size) else { return Ok(None) };
        let group = ConsumerGroup::new(member, size);
        group.map(Some).ok_or_else(|| Usage::new("--member must be at least 0 and below --size"))
    }
}

impl What {
    /// Checks flags that exclude each other.
    ///
    /// # Errors
    /// A member outside its group, or of a stream.
    pub(super) fn check(&self) -> Result<(), Usage> {
        let group = self.group.member()?;
        if self.stream.is_some() && group.is_some() {
            return Err(Usage::new("a stream is read whole; --member and --size go with categories"));
        }
        Ok(())
    }

    /// Reads one page.
    pub(super) async fn page(&self, client: &Client, place: Place) -> anyhow::Result<Page> {
        macro_rules! placed {
            ($query:expr) => {{
                let mut query = $query.limit(place.limit).types(&self.types).wait(place.wait);
                if let Some(from) = place.from {
                    query = query.from(from);
                } else if let Some(since) = place.since {
                    query = query.from_time(since);
                }
                if let Some(until) = place.until {
                    query = query.until(until);
                }
                if place.backward { query.backward() } else { query }
            }};
        }
        let group = self.group.member()?;
        if let Some(stream) = &self.stream {
            return Ok(client.get(stream, &placed!(StreamQuery::new())).await?);
        }
        let mut query = match &self.categories[..] {
            [] => CategoryQuery::all(),
            categories => CategoryQuery::any_of(categories),
        };
        if let Some(correlation) = &self.correlation {
            query = query.correlation(correlation);
        }
        if let Some(group) = group {
            query = query.group(group);
        }
        Ok(client.category_get(&placed!(query)).await?)
    }

    /// A hint if there is nothing of the name that was read, and something of a similar name. It makes two calls, and one more for
    /// each thousand categories. If one of them fails, there is no hint.
    async fn near(&self, client: &Client) -> Option<String> {
        /// Names that are compared.
        const MOST: u32 = 1000;
        let (what, name, known): (_, &str, Vec<String>) = match (&self.stream, &self.categories[..]) {
            (Some(stream), _) if client.stream_version(stream).await.ok()?.is_none() => {
                let category = stream.split('-').next().unwrap_or_default();
                let prefix: String = category.chars().take(2).collect();
                let query = StreamsQuery { prefix: Some(prefix), limit: Some(MOST), ..StreamsQuery::default() };
                let known = client.streams(&query).await.ok()?;
                ("stream", stream, known.into_iter().map(|listed| listed.stream).collect())
            }
            (None, [category]) => {
                let known = client.categories().await.ok()?;
                ("category", category, known.into_iter().map(|listed| listed.category).collect())
            }
            _ => return None,
        };
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let nearest = spelling::nearest(name, &known).filter(|nearest| *nearest != name)?;
        // Every second byte may differ at most, or the names have nothing to do with each other.
        let is_near =
            spelling::is_respelled(name, nearest) || spelling::is_within(name, nearest, name.len().min(6) / 2);
        is_near.then(|| format!("there is no {what} {name:?}; did you mean {nearest:?}?"))
    }

    /// The position at which a read continues after `page`.
    pub(super) fn after(&self, page: &Page, backward: bool) -> Option<i64> {
        let last = page.messages.last();
        let position = |message: &eventodb_client::Message| {
            if self.stream.is_some() { message.position() } else { message.global_position() }
        };
        if backward {
            return last.map(|message| position(message) - 1);
        }
        match self.stream {
            Some(_) => last.map(|message| position(message) + 1),
            None => page.next(),
        }
    }
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut output = Output::new(args.json);
    let result = print(&args, &mut output).await;
    finish(result, output)
}

async fn print(args: &Args, output: &mut Output) -> anyhow::Result<()> {
    const PAGE: u64 = 1000;
    args.what.check()?;
    let client = args.connection.connect().await?;
    if let Some(id) = args.id {
        let found = client.message(id).await?.with_context(|| format!("there is no message with the id {id}"))?;
        return output.message(&found);
    }
    let (mut left, mut from) = (args.limit, args.from);
    let mut is_empty = true;
    while left > 0 {
        let limit = i64::try_from(left.min(PAGE)).expect("a page is small");
        let place =
            Place { from, since: args.since, until: args.until, limit, backward: args.backward, ..Place::default() };
        let page = args.what.page(&client, place).await?;
        for message in &page.messages {
            output.message(message)?;
        }
        is_empty &= page.messages.is_empty();
        left -= page.messages.len() as u64;
        if page.is_last() {
            break;
        }
        from = args.what.after(&page, args.backward);
        if from.is_some_and(|from| from < 0) {
            break;
        }
    }
    if is_empty && let Some(near) = args.what.near(&client).await {
        super::notices::say(&near);
    }
    Ok(())
}
