//! One round of a scenario, and the scenarios that are one load of one kind of request.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::read::{Filled, Place, Read, StreamNames};
use super::write::{InTurn, Kind, Write};
use super::{Case, Scenario};
use crate::host::{Guard, Host, used};
use crate::load::{self, Lane, Loaded, Plan};
use crate::measure::Gauge;
use crate::names::Names;
use crate::session::Session;
use crate::wire::Address;
use crate::{plan, rpc};

/// One round of a scenario: the things that are in place, and how much is asked for.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) case: Case,
    pub(crate) plan: Plan,
    /// Random choices repeat with it.
    pub(crate) seed: u64,
}

impl Turn<'_> {
    pub(crate) fn gauge(&self) -> Arc<Gauge> {
        Arc::clone(&self.session.gauge)
    }

    pub(crate) fn main(&self) -> Address {
        self.session.main.address.clone()
    }

    pub(crate) fn names(&self) -> Names {
        self.session.names.clone()
    }

    pub(crate) fn subscribers(&self) -> u64 {
        plan::subscribers(&self.session.args, self.case.scenario)
    }

    /// A kind of write with the asked number of bytes.
    pub(crate) fn kind(&self, kind: Kind) -> Kind {
        Kind { size: self.session.args.size, ..kind }
    }

    pub(crate) fn lanes<L>(&self, lane: impl Fn(u64) -> L) -> Vec<L> {
        (0..self.case.width).map(lane).collect()
    }

    /// Lanes that write one message a request to the usual streams.
    pub(crate) fn writers(&self, address: &Address, numbers: Range<u64>) -> Vec<Write> {
        let (names, kind) = (&self.session.names, self.kind(Kind::default()));
        numbers.map(|lane| Write::new(address, names, kind, self.seed, lane)).collect()
    }

    /// Lanes that read old pages of the usual categories.
    pub(crate) fn readers(&self, address: &Address, filled: Filled, count: u64) -> Vec<Read> {
        let read = |lane| Read::new(address, &self.session.names, Place::Anywhere, filled, self.seed, lane);
        (0..count).map(read).collect()
    }

    /// Runs these lanes as the turn's plan says.
    pub(crate) async fn load<L: Lane>(&self, address: &Address, lanes: Vec<L>) -> anyhow::Result<Loaded> {
        load::run(address, self.plan.clone(), lanes, self.gauge()).await
    }

    /// Sends the same request over and over.
    pub(crate) async fn repeat(&self, address: &Address, body: &str) -> anyhow::Result<Loaded> {
        let request = address.call(body);
        self.load(address, self.lanes(|_| InTurn::new(vec![request.clone()]))).await
    }

    /// Runs work on an empty server of its own.
    pub(crate) async fn with_server(
        &self,
        guard: Option<&Guard>,
        work: impl AsyncFnOnce(&Host) -> anyhow::Result<Loaded>,
    ) -> anyhow::Result<Loaded> {
        let host = self.session.hosts.start(guard).await?;
        let loaded = work(&host).await;
        host.stop().await?;
        loaded
    }
}

pub(super) async fn version(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    turn.repeat(&turn.main(), r#"["sys.version"]"#).await
}

pub(super) async fn write(turn: Turn<'_>, kind: Kind) -> anyhow::Result<Loaded> {
    let (address, names, kind) = (turn.main(), turn.names(), turn.kind(kind));
    turn.load(&address, turn.lanes(|lane| Write::new(&address, &names, kind, turn.seed, lane))).await
}

pub(super) async fn append(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let batch = Some(turn.session.args.batch);
    write(turn, Kind { batch, ..Kind::default() }).await
}

pub(super) async fn write_many(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let ((address, names), kind) = (turn.session.many().await?, turn.kind(Kind::default()));
    turn.load(&address, turn.lanes(|lane| Write::new(&address, &names, kind, turn.seed, lane))).await
}

async fn read(turn: Turn<'_>, place: Place, filled: Filled) -> anyhow::Result<Loaded> {
    let (address, names) = (turn.main(), turn.names());
    turn.load(&address, turn.lanes(|lane| Read::new(&address, &names, place.clone(), filled, turn.seed, lane))).await
}

pub(super) async fn stream_tail(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let hot = turn.session.hot();
    let mut last = Vec::new();
    for number in 0..hot.streams {
        let asked = serde_json::json!(["stream.version", hot.stream(number)]);
        last.push(rpc::call(&turn.main(), &asked).await?.as_u64().unwrap_or_default());
    }
    let filled = turn.session.filled().await?;
    read(turn, Place::StreamTail(last.into()), filled).await
}

pub(super) async fn stream_get(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let filled = turn.session.filled().await?;
    // Each stream has at least this many of the messages.
    let length = (filled.last + 1 - filled.first) / turn.session.names.streams;
    read(turn, Place::Stream(length), filled).await
}

pub(super) async fn category_tail(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let filled = Filled { first: 1, last: rpc::head(&turn.main()).await? };
    read(turn, Place::Tail, filled).await
}

pub(super) async fn category_get(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let filled = turn.session.filled().await?;
    read(turn, Place::Anywhere, filled).await
}

pub(super) async fn category_member(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let (filled, size) = (turn.session.filled().await?, turn.session.args.group_size);
    read(turn, Place::Member(size), filled).await
}

pub(super) async fn info(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let address = turn.session.large().await?.address.clone();
    turn.repeat(&address, &serde_json::json!(["ns.info", address.namespace()]).to_string()).await
}

pub(super) async fn streams(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let names = turn.session.many_names();
    let address = turn.session.large().await?.address.clone();
    turn.load(&address, vec![StreamNames::new(&address, &names, turn.seed)]).await
}

pub(super) async fn categories(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let address = turn.session.large().await?.address.clone();
    turn.repeat(&address, r#"["ns.categories"]"#).await
}

pub(super) async fn list(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let address = turn.session.namespaces().await?.0.address.clone();
    turn.repeat(&address, r#"["ns.list"]"#).await
}

/// Half of the connections through each of two servers.
pub(super) async fn two_servers(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let main = &turn.session.main;
    let second = main.second().await?;
    let other = Address::new(&second.url, None)?;
    let (width, half) = (turn.case.width, turn.case.width.div_ceil(2));
    let both_used = || main.used() + used(second.pid());
    let before = both_used();
    let both = tokio::try_join!(
        turn.load(&main.address, turn.writers(&main.address, 0..half)),
        turn.load(&other, turn.writers(&other, half..width.max(half + 1))),
    );
    let server_s = both_used().saturating_sub(before).as_secs_f64();
    second.kill().await?;
    let (mut one, other) = both?;
    one.measured.add(other.measured);
    one.elapsed = one.elapsed.max(other.elapsed);
    one.server_s = Some(server_s);
    Ok(one)
}

/// Lets time pass, unless the run is interrupted.
pub(super) async fn pause(duration: Duration, gauge: &Gauge) {
    const STEP: Duration = Duration::from_millis(50);
    let begin = Instant::now();
    while let Some(left) = duration.checked_sub(begin.elapsed())
        && !gauge.is_stopped()
    {
        tokio::time::sleep(left.min(STEP)).await;
    }
}

impl Scenario {
    /// The process of the server that it measures, if there is one that it does not start itself.
    pub(crate) async fn server(self, session: &mut Session) -> anyhow::Result<Option<u32>> {
        use super::Needs;
        Ok(match self.spec().needs {
            Needs::Noop => session.noop_server.as_ref().and_then(crate::host::Server::pid),
            Needs::Large | Needs::Rare => session.large().await?.host.pid(),
            Needs::Namespaces | Needs::OwnServer => None,
            _ if self.is_ceiling() => None,
            _ => session.main.pid(),
        })
    }
}
