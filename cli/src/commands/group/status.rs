//! `eventodb group status`: a table that a person understands at night.

use std::time::Duration;

use eventodb_client::group::Group;
use eventodb_client::group::reply::{GroupStatus, PartitionStatus, Why};

use super::scope;
use crate::commands::output::Output;

/// How often a watched table is drawn.
const WATCH: Duration = Duration::from_secs(1);
/// Clears a terminal and goes to its first line.
const CLEAR: &str = "\x1b[H\x1b[2J";

pub(super) async fn show(group: &Group, watch: bool, output: &mut Output) -> anyhow::Result<()> {
    loop {
        let status = group.status().await?;
        if watch && output.is_terminal() {
            output.line(CLEAR)?;
        }
        print(&status, output)?;
        output.flush()?;
        if !watch {
            return Ok(());
        }
        tokio::time::sleep(WATCH).await;
    }
}

fn print(status: &GroupStatus, output: &mut Output) -> anyhow::Result<()> {
    let group = &status.summary;
    let lag: usize = status.partitions.iter().map(|partition| partition.lag.messages).sum();
    let parked: usize = status.partitions.iter().map(|partition| partition.parked.streams).sum();
    output.note(&format!(
        "{}: {}, {} members, head {}, {lag} messages behind, {parked} streams parked{}",
        group.group,
        scope(&group.categories),
        status.members.len(),
        group.head,
        if group.paused { ", PAUSED" } else { "" }
    ))?;
    let rows: Vec<_> = status.partitions.iter().map(row).collect();
    let head = ["PARTITION", "OWNER", "CHECKPOINT", "LAG", "AGE", "PARKED", "WHY"];
    output.table(&serde_json::to_value(status)?, &head, &rows)
}

fn row(partition: &PartitionStatus) -> Vec<String> {
    let owner = partition.owner.as_ref().map(|owner| owner.name.clone().unwrap_or_else(|| owner.member.clone()));
    let more = if partition.lag.at_least { "+" } else { "" };
    let parked = match partition.parked.streams {
        0 => String::new(),
        streams => format!("{streams}, for {}", duration(partition.parked.oldest_ms)),
    };
    vec![
        partition.partition.to_string(),
        owner.unwrap_or_else(|| "nobody".to_owned()),
        partition.checkpoint.to_string(),
        format!("{}{more}", partition.lag.messages),
        if partition.lag.messages == 0 { String::new() } else { duration(partition.lag.ms) },
        parked,
        words(&partition.why),
    ]
}

/// Why a checkpoint does not move, in words that say what to do.
fn words(why: &Why) -> String {
    match why {
        Why::CaughtUp => "nothing waits".to_owned(),
        Why::Paused => "the group is paused: eventodb group resume".to_owned(),
        Why::Resizing { waits_for } => format!("a resize waits until partitions {waits_for:?} are given back"),
        Why::NoMember => "no member: start a consumer".to_owned(),
        Why::SilentMember { lease_ms } => {
            format!("its owner is silent; another one gets it in {}", duration(*lease_ms))
        }
        Why::Revoking { deadline_ms } => format!("moves to another member, within {}", duration(*deadline_ms)),
        Why::Damaged { position } => {
            format!("the message at {position} is damaged: restore it, or eventodb repair --give-up {position}")
        }
        Why::Truncated => "messages above the checkpoint were removed".to_owned(),
        Why::ParkedFull => "as many streams are parked as may be: eventodb group parked".to_owned(),
        Why::SlowHandler => "its owner calls, and its handler has finished nothing for a session".to_owned(),
        Why::Working => "at work".to_owned(),
    }
}

fn duration(ms: i64) -> String {
    match ms / 1000 {
        0 => format!("{ms} ms"),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let shown = [0, 999, 1000, 119_999, 120_000, 7_200_000].map(duration);
        assert_eq!(shown, ["0 ms", "999 ms", "1 s", "119 s", "2 min", "2 h"]);
    }

    #[test]
    fn a_reason_says_what_to_do() {
        assert_eq!(words(&Why::SilentMember { lease_ms: 1500 }), "its owner is silent; another one gets it in 1 s");
        assert!(words(&Why::Paused).contains("eventodb group resume"));
        assert!(words(&Why::Damaged { position: 7 }).contains("eventodb repair --give-up 7"));
    }
}
