//! What guarding a server costs: TLS, and requests that are refused.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use eventodb_protocol::{DEFAULT_NAMESPACE, Token};
use tokio_postgres::Client;

use super::Turn;
use super::ceiling::NOOP_BODY;
use super::turn::pause;
use super::write::{InTurn, Kind, Write};
use crate::host::{Certificate, Guard, Host};
use crate::load::{self, Lane, Loaded, Plan};
use crate::wire::{Address, Reply};

/// Times the capacity of the server that `overload` sends.
const OVERLOAD: f64 = 4.0;
/// Microseconds that each commit takes at least in `overload`, so that it is the limit and not the processors.
const COMMIT_DELAY: u32 = 20_000;
/// Connections that find the capacity.
const AT_CAPACITY: u64 = 32;
/// How long appends wait before those that are refused are counted: longer than the server takes for a stall.
const HELD_UP: Duration = Duration::from_secs(3);
/// Appends that wait.
const WAITING: f64 = 60.0;

/// Writes as streams of few HTTP/2 connections to a server that asks for tokens.
pub(super) async fn write_over_http2(turn: Turn<'_>, is_tls: bool) -> anyhow::Result<Loaded> {
    let guard = match is_tls {
        true => Guard::with_tls(Certificate::new(turn.session.directory.path())?),
        false => Guard::new([]),
    };
    turn.with_server(Some(&guard), async |host| {
        let address = Address { http2: Some(Arc::default()), ..host.address.clone() };
        turn.load(&address, turn.writers(&address, 0..turn.case.width)).await
    })
    .await
}

/// Requests with a token that the server does not know.
pub(super) async fn wrong_token(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    turn.with_server(Some(&Guard::new([])), async |host| {
        let token = Token::generate(DEFAULT_NAMESPACE).as_str().to_owned();
        let address = Address { token: Some(token), ..host.address.clone() };
        // The first few are refused because of their token, the others because there were so many of them.
        turn.load(&address, turn.lanes(refused(&address, &[403, 429]))).await
    })
    .await
}

/// Writes to a log that is overloaded, because it commits nothing any more.
pub(super) async fn shed(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    turn.with_server(None, async |host| {
        let address = host.address.clone();
        let first = Plan { count: Some(1), ..Plan::default() };
        load::run(&address, first, turn.writers(&address, 0..1), turn.gauge()).await?;
        let database = host.database().context("the server has no database")?.connect().await?;
        hold_up(&database).await?;
        // These wait until the server ends.
        let waiting = Plan { duration: HELD_UP, rate: Some(WAITING / HELD_UP.as_secs_f64()), ..Plan::default() };
        let lanes = turn.writers(&address, 0..WAITING as u64);
        let (gauge, to) = (turn.gauge(), address.clone());
        tokio::spawn(async move { load::run(&to, waiting, lanes, gauge).await });
        pause(HELD_UP, &turn.session.gauge).await;
        turn.load(&address, turn.lanes(refused(&address, &[503]))).await
    })
    .await
}

/// Lanes that send what the no-op is asked, and are refused with one of these statuses.
fn refused(address: &Address, statuses: &'static [u16]) -> impl Fn(u64) -> Refused<InTurn> {
    let request = address.call(NOOP_BODY);
    move |_| Refused { lane: InTurn::new(vec![request.clone()]), statuses, others: Others::Fail }
}

/// Takes locks that no append gets past, for as long as the session lives.
async fn hold_up(database: &Client) -> anyhow::Result<()> {
    let tables = "SELECT format('LOCK TABLE %I.%I IN SHARE ROW EXCLUSIVE MODE', schemaname, tablename) FROM pg_tables
        WHERE schemaname LIKE 'eventodb\\_%'";
    let locks: Vec<String> = database.query(tables, &[]).await?.iter().map(|row| row.get(0)).collect();
    anyhow::ensure!(!locks.is_empty(), "the log has no tables yet");
    Ok(database.batch_execute(&format!("BEGIN; {}", locks.join("; "))).await?)
}

/// Appends as fast as the server takes them, then four times as many; the latter are measured.
pub(super) async fn overload(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let mut host = turn.session.hosts.start(None).await?;
    let loaded = beyond_capacity(&turn, &mut host).await;
    host.stop().await?;
    loaded
}

async fn beyond_capacity(turn: &Turn<'_>, host: &mut Host) -> anyhow::Result<Loaded> {
    let database = host.database().context("the server has no database")?;
    let client = database.connect().await?;
    for (name, value) in [("commit_siblings", 0), ("commit_delay", COMMIT_DELAY)] {
        client.batch_execute(&format!("ALTER DATABASE {} SET {name} = {value}", database.name())).await?;
    }
    // The setting is that of new sessions.
    host.restart().await?;
    let address = host.address.clone();
    let kind = turn.kind(Kind { batch: Some(turn.session.args.batch), ..Kind::default() });
    let lane = |lane| {
        let lane = Write::new(&address, &turn.session.names, kind, turn.seed, lane);
        Refused { lane, statuses: &[503], others: Others::Count }
    };
    let alone = load::run(&address, turn.plan.clone(), (0..AT_CAPACITY).map(lane).collect(), turn.gauge()).await?;
    let capacity = alone.pace(alone.measured.latencies.len());
    let plan = Plan { rate: Some(capacity * OVERLOAD), ..turn.plan.clone() };
    let mut loaded = load::run(&address, plan, turn.lanes(lane), turn.gauge()).await?;
    let accepted = |loaded: &Loaded| loaded.pace(loaded.measured.messages);
    let requests = loaded.measured.latencies.len() as f64;
    let answered = loaded.measured.messages as f64 / turn.session.args.batch as f64;
    loaded.readings = [
        ("alone_messages", accepted(&alone)),
        ("accepted_share", accepted(&loaded) / accepted(&alone).max(f64::EPSILON)),
        ("refused_share", 1.0 - answered / requests.max(1.0)),
    ]
    .into();
    loaded.measured.fail(alone.measured);
    Ok(loaded)
}

/// A lane whose requests are refused, as they should be.
#[derive(Debug)]
struct Refused<L> {
    lane: L,
    /// The statuses of a refusal.
    statuses: &'static [u16],
    others: Others,
}

/// What answers are that are no refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    /// Errors.
    Fail,
    /// Those of the lane.
    Count,
}

impl<L: Lane> Lane for Refused<L> {
    fn request(&mut self) -> &[u8] {
        self.lane.request()
    }

    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64> {
        if self.statuses.contains(&reply.status) {
            return Ok(0);
        }
        anyhow::ensure!(self.others == Others::Count, "answered with {}, which is no refusal", reply.status);
        self.lane.answer(reply)
    }
}
