//! Filters that match nothing in a large log: a type, a category, a correlation, a consumer group's member.

use std::time::Instant;

use anyhow::Context as _;
use eventodb_protocol::ConsumerGroup;
use serde_json::{Value, json};

use super::Turn;
use crate::load::Loaded;
use crate::measure::Gauge;
use crate::rpc;
use crate::wire::{Address, Connection};

/// A category whose messages are all of one stream, so that most members of a group have none of them.
const LONELY: &str = "lonely";
const MEMBERS: i64 = 16;
/// Messages of it, at most.
const MOST: u64 = 100_000;
/// Messages of one append.
const BATCH: u64 = 1_000;

/// Puts the lonely category in place, with a tenth of the log's messages.
pub(crate) async fn prepare(address: &Address, preload: u64, gauge: &Gauge) -> anyhow::Result<()> {
    let message = json!({"type": "Deposited", "data": {"amount": 1}});
    let wanted = (preload / 10).clamp(1, MOST);
    let mut written = 0;
    while written < wanted {
        gauge.go_on(|| format!("messages were put in place: {written} of {wanted}"))?;
        let batch = BATCH.min(wanted - written);
        let messages = vec![message.clone(); usize::try_from(batch)?];
        rpc::call(address, &json!(["stream.append", lonely(), messages])).await?;
        written += batch;
    }
    Ok(())
}

/// Asks with each filter once, until the answer is complete.
pub(super) async fn run(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let (gauge, category) = (turn.gauge(), turn.session.names.category(0));
    let address = &turn.session.rare().await?.address;
    let member = (0..MEMBERS)
        .find(|&member| ConsumerGroup::new(member, MEMBERS).is_some_and(|group| !group.owns(&lonely())))
        .context("every member has the one stream")?;
    let group = json!({"consumerGroup": {"member": member, "size": MEMBERS}});
    let questions = [
        ("type_ms", "", json!({"types": ["NeverHappened"]})),
        ("category_ms", "nobody", json!({})),
        ("correlation_ms", &*category, json!({"correlation": "nowhere"})),
        ("member_ms", LONELY, group),
    ];
    let mut loaded = Loaded::default();
    let begin = Instant::now();
    for (name, category, options) in questions {
        if gauge.is_stopped() {
            break;
        }
        let asked = Instant::now();
        ask(address, category, options).await.with_context(|| name.to_owned())?;
        loaded.measured.answer(asked.elapsed(), begin.elapsed(), 0);
        loaded.readings.insert(name, asked.elapsed().as_secs_f64() * 1e3);
    }
    loaded.elapsed = begin.elapsed();
    Ok(loaded)
}

/// Asks with one filter. An empty page may end before the head; the next one begins behind it.
async fn ask(address: &Address, category: &str, mut options: Value) -> anyhow::Result<()> {
    let head = rpc::head(address).await?;
    let mut connection = Connection::open(address).await?;
    let mut position = 1;
    while position <= head {
        options["position"] = json!(position);
        options["batchSize"] = json!(100);
        let request = address.call(&json!(["category.get", category, options]).to_string());
        let reply = connection.exchange(&request.bytes).await?;
        let page = reply.success()?;
        anyhow::ensure!(page == b"[]", "messages where none match: {}", String::from_utf8_lossy(page));
        let complete: u64 = reply.header("x-eventodb-head").context("an answer without X-EventoDB-Head")?.parse()?;
        anyhow::ensure!(complete >= position, "an answer that gets nowhere");
        position = complete + 1;
    }
    Ok(())
}

fn lonely() -> String {
    format!("{LONELY}-1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_member_has_none_of_a_category_with_one_stream() {
        let owners = (0..MEMBERS).filter(|&member| ConsumerGroup::new(member, MEMBERS).unwrap().owns(&lonely()));
        assert_eq!(owners.count(), 1);
    }
}
