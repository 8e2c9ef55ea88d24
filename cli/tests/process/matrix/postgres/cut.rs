//! Connections to PostgreSQL that are cut during one operation.

use std::fmt;

use anyhow::{Context as _, Result, ensure};
use eventodb_testing::postgres;
use eventodb_testing::proxy::{Cut, Proxy};
use serde_json::{Value, json};

use super::super::super::http::Http;
use super::super::ledger::call;
use super::super::patiently;
use super::scene::Scene;

/// The operation during which the connection is cut.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Append,
    Create,
    Delete,
    Read,
}

pub(super) const OPERATIONS: [Operation; 4] =
    [Operation::Append, Operation::Create, Operation::Delete, Operation::Read];

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Append => "append",
            Self::Create => "ns.create",
            Self::Delete => "ns.delete",
            Self::Read => "read",
        })
    }
}

/// The place of the cut.
#[derive(Clone, Copy, Debug)]
pub(super) enum Point {
    RequestBegin,
    RequestMiddle,
    ReplyBegin,
    ReplyMiddle,
    ReplyEnd,
}

pub(super) const POINTS: [Point; 5] =
    [Point::RequestBegin, Point::RequestMiddle, Point::ReplyBegin, Point::ReplyMiddle, Point::ReplyEnd];

impl fmt::Display for Point {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::RequestBegin => "before the request",
            Self::RequestMiddle => "within the request",
            Self::ReplyBegin => "before the reply",
            Self::ReplyMiddle => "within the reply",
            Self::ReplyEnd => "before the reply's last byte",
        })
    }
}

impl Point {
    /// The cut for an operation that sends and receives this many bytes.
    fn of(self, (requests, replies): (usize, usize)) -> Cut {
        match self {
            Self::RequestBegin => Cut::Request(0),
            Self::RequestMiddle => Cut::Request(requests / 2),
            Self::ReplyBegin => Cut::Reply(0),
            Self::ReplyMiddle => Cut::Reply(replies / 2),
            Self::ReplyEnd => Cut::Reply(replies.saturating_sub(1)),
        }
    }
}

/// Runs the row.
pub(super) async fn run(operation: Operation, point: Point, postgres: &postgres::Server) -> Result<String> {
    let mut scene = Scene::prepare(postgres, "").await?;
    let outcome = cut_and_check(operation, point, &mut scene).await;
    outcome.with_context(|| format!("(the server's log ends: {})", scene.log()))
}

async fn cut_and_check(operation: Operation, point: Point, scene: &mut Scene<'_>) -> Result<String> {
    // A new server has no messages in memory, so that it reads from the database.
    scene.stop().await?;
    let there = format!("127.0.0.1:{}", scene.postgres.port());
    let proxy = Proxy::start(&there).await;
    let relayed = scene.url.replace(&there, proxy.address());
    // Notifications use another connection, so that only the bytes of the operation are counted.
    let direct = scene.url.clone();
    scene.start(&relayed, &["--listen-url", &direct]).await?;
    let mut http = scene.connect().await;
    for name in ["before", "measured", "cut"] {
        if matches!(operation, Operation::Delete) {
            call(&mut http, &json!(["ns.create", name])).await?;
        }
    }
    // The first operation also prepares statements.
    operation.perform(scene, &mut http, "before").await?;
    let before = proxy.passed();
    operation.perform(scene, &mut http, "measured").await?;
    let after = proxy.passed();
    proxy.cut_at(point.of((after.0 - before.0, after.1 - before.1)));
    let status = operation.perform(scene, &mut http, "cut").await?;
    let is_cut = proxy.has_cut();
    operation.settle(scene, status).await?;
    scene.check_afterwards().await?;
    Ok(match is_cut {
        true => format!("answered with {status}"),
        false => format!("the cut came later; answered with {status}"),
    })
}

impl Operation {
    fn call(self, name: &str) -> Value {
        match self {
            Self::Create => json!(["ns.create", name]),
            Self::Delete => json!(["ns.delete", name]),
            _ => json!(["category.get", "", { "position": 1 }]),
        }
    }

    /// Does the operation once, and returns the status of the answer.
    async fn perform(self, scene: &Scene<'_>, http: &mut Http, name: &str) -> Result<u16> {
        if matches!(self, Self::Append) {
            return scene.ledgers[0].write_once(&scene.server().address).await.context("a write is answered");
        }
        let (status, answer) = patiently("it is answered", http.call(&self.call(name))).await??;
        ensure!([200, 503, 504].contains(&status), "it is answered with {status} {answer}");
        ensure!(status != 504 || !matches!(self, Self::Read), "a read has no unknown outcome");
        Ok(status)
    }

    /// Checks that the answer was true: done, certainly not done, or unknown.
    async fn settle(self, scene: &Scene<'_>, status: u16) -> Result<()> {
        let done_already = match self {
            Self::Create => 409,
            Self::Delete => 404,
            // The ledger checks appends, and a read changes nothing.
            Self::Append | Self::Read => return Ok(()),
        };
        let mut http = scene.connect().await;
        // If the cut came too late for the first call, one of these meets it.
        let mut is_open = status == 504;
        let again = patiently("it is answered again", async {
            loop {
                match http.call(&self.call("cut")).await {
                    Ok((refused @ (503 | 504), _)) => is_open |= refused == 504,
                    answer => return answer,
                }
                tokio::time::sleep(super::scene::LOOK_EVERY).await;
            }
        });
        let again = again.await??.0;
        let allowed: &[u16] = match status {
            200 => &[done_already],
            _ if is_open => &[200, done_already],
            _ => &[200],
        };
        ensure!(allowed.contains(&again), "answered with {status}, and then with {again}");
        Ok(())
    }
}
