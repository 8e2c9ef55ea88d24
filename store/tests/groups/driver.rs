//! The store under test: its calls on groups over a database, with the requests and replies of the wire.
//!
//! The clock is the simulation's.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use eventodb_protocol::message::Expected;
use eventodb_protocol::request::group as request;
use eventodb_protocol::request::{Call, single_write, stream_append};
use eventodb_protocol::{Limits, Token, wire};
use eventodb_store::log::Groups;
use eventodb_store::model::NewNamespace;
use eventodb_store::{Backend, Conflict, Error, EventStore, Log, Settings};
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::pair::{Failure, Subject};

const NAMESPACE: &str = "n";

type Reply = Result<Value, Failure>;

/// Opens the same database each time.
pub(crate) type Open = Arc<dyn Fn() -> BoxFuture<'static, Arc<dyn Backend>> + Send + Sync>;

/// A store whose groups are under test.
pub(crate) struct Driver {
    runtime: Arc<Runtime>,
    open: Open,
    settings: Settings,
    clock: Arc<AtomicI64>,
    forgets_leases: bool,
    store: Arc<EventStore>,
    log: Arc<Log>,
}

impl Driver {
    pub(crate) fn new(runtime: Arc<Runtime>, open: Open, settings: Settings, forgets_leases: bool) -> Self {
        let clock = Arc::new(AtomicI64::new(0));
        let settings = Settings { group_clock: Some(Arc::clone(&clock)), ..settings };
        let (store, log) = runtime.block_on(async {
            let store = EventStore::open(open().await, settings.clone()).await.expect("it opens");
            let new = NewNamespace {
                name: NAMESPACE.into(),
                token_hash: Token::generate(NAMESPACE).hash(),
                description: String::new(),
                metadata: "{}".to_owned(),
            };
            store.create(new).await.expect("it is new");
            let log = store.log(NAMESPACE).await.expect("it is there");
            (store, log)
        });
        Self { runtime, open, settings, clock, forgets_leases, store, log }
    }

    fn groups(&self) -> &Groups {
        self.log.groups()
    }

    async fn answer(&self, method: &str, call: &mut Call<'_>) -> Reply {
        if method.starts_with("stream.") {
            return self.append(method, call).await;
        }
        if method == "group.list" {
            return reply(self.groups().list().await);
        }
        let limits = Limits::default();
        let name = request::group_name(call, &limits).map_err(refused)?;
        let groups = self.groups();
        if method == "group.create" {
            let new = request::CreateGroup::parse(call, &limits).map_err(refused)?;
            return reply(groups.create(&name, new).await);
        }
        groups.definition(&name).await.map_err(failed)?;
        let stop = CancellationToken::new();
        match method {
            "group.update" => reply(groups.update(&name, request::UpdateGroup::parse(call).map_err(refused)?).await),
            "group.pause" => reply(groups.pause(&name, None).await),
            "group.resume" => reply(groups.resume(&name, None).await),
            "group.resize" => {
                reply(groups.resize(&name, request::ResizeGroup::parse(call).map_err(refused)?, None).await)
            }
            "group.delete" => reply(groups.delete(&name).await),
            "group.status" => reply(groups.status(&name).await),
            "group.audit" => reply(groups.audit(&name, request::AuditPage::parse(call).map_err(refused)?).await),
            "group.wait" => {
                let wait = request::Wait::parse(call, &limits).map_err(refused)?;
                reply(groups.wait(&name, request::Wait { timeout_ms: 0, ..wait }, &stop).await)
            }
            "group.reset" => {
                reply(groups.reset(&name, request::ResetGroup::parse(call, &limits).map_err(refused)?, None).await)
            }
            "group.join" => reply(groups.join(&name, request::Join::parse(call, &limits).map_err(refused)?).await),
            "group.parked" => {
                reply(groups.parked(&name, request::ParkedPage::parse(call, &limits).map_err(refused)?).await)
            }
            "group.retry" => reply(groups.retry(&name, request::Retry::parse(call, &limits).map_err(refused)?).await),
            "group.skip" => {
                reply(groups.skip(&name, request::Skip::parse(call, &limits).map_err(refused)?, None).await)
            }
            _ => self.answer_member(method, &name, call).await,
        }
    }

    async fn answer_member(&self, method: &str, name: &str, call: &mut Call<'_>) -> Reply {
        let (groups, stop) = (self.groups(), CancellationToken::new());
        let member = call.string("member").map_err(refused)?.into_owned();
        match method {
            "group.leave" => {
                let leave = request::Leave::parse(call).map_err(refused)?;
                groups.leave(name, &member, leave).await.map_err(failed)?;
                Ok(json!({}))
            }
            "group.heartbeat" => {
                let beat = request::MemberCall::parse(call).map_err(refused)?;
                reply(groups.heartbeat(name, &member, beat, &stop).await)
            }
            "group.read" => {
                let read = request::ReadGroup::parse(call).map_err(refused)?;
                let read = groups.read(name, &member, read, &stop, |_| true).await.map_err(failed)?;
                Ok(serde_json::from_slice(&wire::group_read(read)).expect("JSON"))
            }
            "group.park" => reply(groups.park(name, &member, request::Park::parse(call).map_err(refused)?).await),
            "group.handled" => {
                let handled = request::Handled::parse(call, &Limits::default()).map_err(refused)?;
                reply(groups.handled(name, &member, handled).await)
            }
            _ => panic!("{method} is no method of the simulation"),
        }
    }

    async fn append(&self, method: &str, call: &mut Call<'_>) -> Reply {
        let limits = Limits::default();
        let is_single = method == "stream.write";
        let append = if is_single { single_write(call, &limits) } else { stream_append(call, &limits) };
        let written = self.log.append(append.map_err(refused)?).await.map_err(failed)?[0];
        Ok(match is_single {
            true => json!({ "position": written.first_position, "globalPosition": written.first_global_position }),
            false => serde_json::to_value(written).expect("results are JSON"),
        })
    }
}

impl Subject for Driver {
    fn tick(&mut self, now: i64) {
        self.clock.store(now, Ordering::Relaxed);
        self.runtime.block_on(self.groups().expire()).expect("the database answers");
    }

    fn call(&mut self, now: i64, method: &str, args: &[Value]) -> Reply {
        self.clock.store(now, Ordering::Relaxed);
        let body = Value::from([vec![json!(method)], args.to_vec()].concat()).to_string();
        let mut call = Call::parse(&body).expect("a call is an array with a method");
        self.runtime.block_on(self.answer(method, &mut call))
    }

    fn restart(&mut self) -> bool {
        let (store, open, settings) = (Arc::clone(&self.store), Arc::clone(&self.open), self.settings.clone());
        (self.store, self.log) = self.runtime.block_on(async move {
            store.close().await;
            let store = EventStore::open(open().await, settings).await.expect("it opens again");
            let log = store.log(NAMESPACE).await.expect("it is there");
            log.groups().expire().await.expect("the database answers");
            (store, log)
        });
        self.forgets_leases
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.runtime.block_on(self.store.close());
    }
}

fn reply(result: Result<impl Serialize, Error>) -> Reply {
    result.map(|reply| serde_json::to_value(reply).expect("replies are JSON")).map_err(failed)
}

fn refused(error: eventodb_protocol::Error) -> Failure {
    error.into()
}

fn failed(error: Error) -> Failure {
    match error {
        Error::GroupNotFound => {
            Failure { code: "GROUP_NOT_FOUND".to_owned(), message: error.to_string(), details: Value::Null }
        }
        Error::Group(refusal) => refusal.into(),
        Error::IdConflict(_) => {
            Failure { code: "MESSAGE_ID_CONFLICT".to_owned(), message: error.to_string(), details: Value::Null }
        }
        Error::VersionConflict(conflicts) => {
            let [Conflict::Version { expected: Expected::Version(expected), actual, .. }] = conflicts[..] else {
                panic!("the simulation expects versions of one stream");
            };
            let details = json!({ "expected": expected, "actual": actual });
            let code = "STREAM_VERSION_CONFLICT".to_owned();
            Failure { code, message: "another version".to_owned(), details }
        }
        error => panic!("the store failed: {}", eventodb_store::Chain(&error)),
    }
}
