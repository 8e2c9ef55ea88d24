//! The same writes and reads with ever more messages in place: a log that grows must not become slower.
//!
//! Each size has namespaces of its own on one server, and the sizes take turns in every round, so that figures of the
//! same seconds are compared. Each figure is taken as a share of the no-op ceiling's right before.

use std::sync::Arc;

use anyhow::Context as _;

use crate::Distribution;
use crate::args::Args;
use crate::clock::Clock;
use crate::host::Host;
use crate::load::{self, Plan};
use crate::names::Names;
use crate::plan::{plan, rounds};
use crate::progress::Progress;
use crate::report::{Round, Row, median};
use crate::rpc;
use crate::run::{extent, round};
use crate::scenario::read::{Filled, Place, Read};
use crate::scenario::write::{Kind, Write};
use crate::scenario::{Case, Scenario};
use crate::session::Session;
use crate::target::Verdict;
use crate::wire::Address;

/// A load that is measured at each size.
#[derive(Debug)]
struct Part {
    name: &'static str,
    connections: u64,
    /// The place that it reads, by the length of the streams. Without one it writes.
    place: Option<fn(u64) -> Place>,
    /// Whether it writes to very many streams, with random ids.
    is_many: bool,
    /// The share of the first size's figure that each other size must have, and the same in words.
    target: (f64, &'static str),
}

const ALIKE: (f64, &str) = (0.9, "≥ 0.9 of the first size's share of noop");
const NEARLY_ALIKE: (f64, &str) = (0.6, "≥ 0.6 of the first size's share of noop");

static PARTS: [Part; 4] = [
    Part { name: "grow-write", connections: 64, place: None, is_many: false, target: ALIKE },
    Part { name: "grow-stream-get", connections: 16, place: Some(Place::Stream), is_many: false, target: ALIKE },
    Part {
        name: "grow-category-get",
        connections: 16,
        place: Some(|_| Place::Anywhere),
        is_many: false,
        target: ALIKE,
    },
    Part { name: "grow-write-million", connections: 64, place: None, is_many: true, target: NEARLY_ALIKE },
];

/// The namespaces with one number of messages.
#[derive(Debug)]
struct Size {
    messages: u64,
    /// Over the usual number of streams.
    few: (Address, Names),
    /// Over very many, with random ids.
    many: (Address, Names),
}

impl Part {
    fn row(&self, messages: u64) -> String {
        format!("{}/{messages}", self.name)
    }
}

/// A row for each part at each size.
pub(crate) async fn rows(session: &mut Session, progress: &Progress) -> anyhow::Result<Vec<Row>> {
    if let Some(why) = session.lacks(Scenario::Grow).await? {
        return Ok(vec![Row::skipped(Scenario::Grow.name(), why)]);
    }
    let host = session.hosts.start(None).await?;
    match measure(session, &host, progress).await {
        Ok((rows, largest)) => {
            session.take_over(host, largest.many.0, largest.messages).await?;
            Ok(rows)
        }
        Err(error) => {
            host.stop().await?;
            Err(error)
        }
    }
}

/// The rows, and the largest of the sizes for others to use.
async fn measure(session: &mut Session, host: &Host, progress: &Progress) -> anyhow::Result<(Vec<Row>, Size)> {
    let mut sizes = Vec::new();
    for messages in session.args.sizes.clone() {
        progress.runs(&format!("{messages} messages put in place, twice"));
        sizes.push(Size::new(session, host, messages).await?);
    }
    // For each part and size the rounds, and their shares of the ceiling.
    let empty = |part: &Part| {
        let row = |size: &Size| (Row { name: part.row(size.messages), ..Row::default() }, Vec::new());
        sizes.iter().map(row).collect()
    };
    let mut found: Vec<Vec<(Row, Vec<f64>)>> = PARTS.iter().map(empty).collect();
    for number in 0..rounds(&session.args, Scenario::Grow) {
        for (part, rows) in PARTS.iter().zip(&mut found) {
            progress.runs(&format!("{}, round {}", part.name, number + 1));
            match turns(session, host, part, &sizes, number, rows).await {
                // After an interruption the rounds until then remain.
                Err(error) if !session.gauge.is_stopped() => return Err(error),
                _ => {}
            }
        }
        progress.round_is_done();
    }
    let judged = PARTS.iter().zip(found).flat_map(|(part, rows)| judge(session, part, rows));
    let rows = judged.collect();
    let largest = sizes.into_iter().max_by_key(|size| size.messages).context("there are no sizes")?;
    Ok((rows, largest))
}

/// A round of a part at each size, right after one of the no-op ceiling, as whose share each is taken.
async fn turns(
    session: &mut Session,
    host: &Host,
    part: &Part,
    sizes: &[Size],
    number: u32,
    rows: &mut [(Row, Vec<f64>)],
) -> anyhow::Result<()> {
    session.gauge.go_on(|| "it was measured".to_owned())?;
    let noop = round(session, Case::new(Scenario::Noop, part.connections), number).await?;
    for (size, (row, shares)) in sizes.iter().zip(rows) {
        session.gauge.go_on(|| "it was measured".to_owned())?;
        let measured = part_round(session, host, part, size, number).await?;
        shares.push(measured.figures.ops / noop.figures.ops.max(f64::EPSILON));
        row.push(measured);
    }
    Ok(())
}

/// The names of all rows.
pub(crate) fn names(args: &Args) -> Vec<String> {
    PARTS.iter().flat_map(|part| args.sizes.iter().map(|messages| part.row(*messages))).collect()
}

/// Compares each size with the first, round by round.
fn judge(session: &Session, part: &Part, rows: Vec<(Row, Vec<f64>)>) -> Vec<Row> {
    let first = rows.first().map(|(_, shares)| shares.clone()).unwrap_or_default();
    let is_usual = extent(&session.args, Case::new(Scenario::Grow, 1)).is_usual && session.args.sizes.len() >= 3;
    let is_full = is_usual && !session.gauge.is_stopped();
    let judged = rows.into_iter().enumerate().map(|(number, (mut row, shares))| {
        if row.rounds.is_empty() {
            return Row::skipped(row.name, "broken off before its first round".to_owned());
        }
        row.is_interrupted = session.gauge.is_stopped();
        row.of_noop = median(shares.iter().copied());
        let (limit, target) = part.target;
        let ratios = shares.iter().zip(&first).map(|(share, first)| share / first.max(f64::EPSILON));
        let value = median(ratios).unwrap_or_default();
        let (target, figure) = (target.to_owned(), "share of noop, of the first size's".to_owned());
        let verdict = Verdict { target, figure, value, limit, is_upper: false, holds: value >= limit, is_full };
        row.judge(if number == 0 { Vec::new() } else { vec![verdict] });
        row
    });
    judged.collect()
}

async fn part_round(session: &Session, host: &Host, part: &Part, size: &Size, number: u32) -> anyhow::Result<Round> {
    let (args, seed) = (&session.args, session.args.seed.wrapping_add(u64::from(number)));
    let (address, names) = if part.is_many { &size.many } else { &size.few };
    // The plan is that of the scenario that the part repeats at another size.
    let like = if part.place.is_none() { Scenario::Write } else { Scenario::CategoryGet };
    let of = |scenario| plan(args, session.hosts.backend(), Case::new(scenario, part.connections));
    let plan = Plan { ramp: None, duration: of(Scenario::Grow).duration, ..of(like) };
    let clock = Clock::begin(host.pid(), &plan);
    let (lanes, gauge) = (0..part.connections, Arc::clone(&session.gauge));
    let Some(place) = part.place else {
        let kind = Kind { size: args.size, client_ids: part.is_many, ..Kind::default() };
        let lanes = lanes.map(|n| Write::new(address, names, kind, seed, n)).collect();
        return clock.end(&load::run::<Write>(address, plan, lanes, gauge).await?, Some(host)).await;
    };
    let (place, filled) = (place(size.messages / names.streams), Filled { first: 1, last: size.messages });
    let lanes = lanes.map(|n| Read::new(address, names, place.clone(), filled, seed, n)).collect();
    clock.end(&load::run::<Read>(address, plan, lanes, gauge).await?, None).await
}

impl Size {
    /// Two namespaces with this number of messages in place.
    async fn new(session: &Session, host: &Host, messages: u64) -> anyhow::Result<Self> {
        let args = &session.args;
        let few = Names::new(args.streams.min(messages), args.categories, Distribution::Uniform);
        let put = async |id: String, names: Names, random_ids: bool| {
            let address = rpc::create_namespace(&host.address, &id).await?;
            session.fill(host, &address, &names, messages, random_ids).await?;
            anyhow::Ok((address, names))
        };
        Ok(Self {
            messages,
            few: put(format!("grow-{messages}"), few, false).await.context("the usual streams")?,
            many: put(format!("grow-many-{messages}"), session.many_names(), true)
                .await
                .context("very many streams")?,
        })
    }
}
