//! Writers that remember their answers, and the comparison of these with the messages of a server.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::super::http::Http;
use super::patiently;

/// Writers of one namespace.
const WRITERS: usize = 2;
/// Bytes of each message beside its mark.
const FILLING: usize = 100;
/// Streams of one writer.
const STREAMS: usize = 3;
/// The loss of a message that was acknowledged longer ago than this is always reported.
const MARKED_WITHIN: Duration = Duration::from_secs(2);
/// How long a writer waits after a write that was not acknowledged.
const PAUSE: Duration = Duration::from_millis(10);

/// One write: its id, which is also its mark, and its stream.
#[derive(Clone, Debug)]
struct Write {
    id: Uuid,
    stream: String,
    filling: usize,
}

impl Write {
    fn call(&self) -> Value {
        let data = json!({ "mark": self.id.to_string(), "filling": "x".repeat(self.filling) });
        json!(["stream.write", self.stream, { "type": "T", "data": data }, { "id": self.id.to_string() }])
    }
}

#[derive(Clone, Debug, Default)]
struct Known {
    acknowledged: Vec<(Write, i64, i64)>,
    /// The time at which each write was acknowledged.
    acknowledged_at: HashMap<Uuid, Instant>,
    refused: Vec<Write>,
    unanswered: Vec<Write>,
    /// Answers that no fault excuses.
    surprises: Vec<String>,
}

/// A namespace and the answers of its writers.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    pub(super) namespace: &'static str,
    token: String,
    filling: usize,
    known: Arc<Mutex<Known>>,
}

/// What a server has served from damaged files.
#[derive(Debug, Default)]
pub(super) struct Found {
    served: usize,
    /// Messages that were acknowledged more than two seconds before the kill, and are not served.
    pub(super) missing: usize,
    /// Messages that were acknowledged later and are not served.
    young: usize,
    /// Damaged messages that the reads along the log have met.
    damaged: usize,
    /// Why reads ended early.
    stopped: Option<String>,
}

impl Found {
    /// Whether all reads reached the end.
    pub(super) fn is_whole(&self) -> bool {
        self.damaged == 0 && self.stopped.is_none()
    }

    /// Reads page after page, and continues after a damaged message.
    async fn read(&mut self, http: &mut Http, category: &str) -> Result<Vec<Value>> {
        let (mut all, mut from): (Vec<Value>, i64) = (Vec::new(), 1);
        loop {
            match answer(http, &json!(["category.get", category, { "position": from, "batchSize": 1000 }])).await? {
                (200, Value::Array(page)) if page.is_empty() => return Ok(all),
                (200, Value::Array(page)) => {
                    from = page.last().and_then(|message| message[4].as_i64()).context("a position")? + 1;
                    all.extend(page);
                }
                (_, error) => match error["error"]["details"]["globalPosition"].as_i64() {
                    Some(damaged) if damaged >= from => {
                        self.damaged += usize::from(category.is_empty());
                        from = damaged + 1;
                    }
                    _ => {
                        self.stopped = Some(format!("{category:?} is answered with {error}"));
                        return Ok(all);
                    }
                },
            }
        }
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { served, missing, young, damaged, stopped } = self;
        write!(formatter, "{served} served, {damaged} damaged, {missing} missing and {young} younger ones")?;
        stopped.iter().try_for_each(|stopped| write!(formatter, ", reading ends: {stopped}"))
    }
}

/// Writers at work.
pub(super) struct Writers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Stops the writers after the write that each has begun.
    pub(super) async fn stop(self) -> Result<()> {
        self.stop.store(true, SeqCst);
        for task in self.tasks {
            patiently("a writer ends", task).await??;
        }
        Ok(())
    }
}

impl Ledger {
    pub(super) fn new(namespace: &'static str, token: impl Into<String>) -> Self {
        Self { namespace, token: token.into(), filling: FILLING, known: Arc::default() }
    }

    /// The same ledger, with messages of another size from now on.
    pub(super) fn filled(self, filling: usize) -> Self {
        Self { filling, ..self }
    }

    /// How many writes were refused.
    pub(super) fn refused(&self) -> usize {
        self.known.lock().refused.len()
    }

    /// A new ledger that begins with the content of this one.
    pub(super) fn fork(&self) -> Self {
        Self { known: Arc::new(Mutex::new(self.known.lock().clone())), ..self.clone() }
    }

    async fn connect(&self, address: &str) -> std::io::Result<Http> {
        Http::connect(address, &self.token).await
    }

    /// Starts writers, which write until they are stopped or the server ends.
    pub(super) fn write(&self, address: &str) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let begin = |writer| {
            let (ledger, address, stop) = (self.clone(), address.to_owned(), stop.clone());
            tokio::spawn(async move { ledger.write_until(&address, writer, &stop).await })
        };
        let tasks = (0..WRITERS).map(begin).collect();
        Writers { stop, tasks }
    }

    async fn write_until(&self, address: &str, writer: usize, stop: &AtomicBool) {
        let Ok(mut http) = self.connect(address).await else { return };
        for at in 0.. {
            if stop.load(SeqCst) {
                return;
            }
            let write = self.next_write(writer, at);
            let answer = http.call(&write.call()).await;
            let is_gone = answer.is_err();
            if !self.note(write, answer) {
                tokio::time::sleep(PAUSE).await;
            }
            if is_gone {
                let Ok(again) = self.connect(address).await else { return };
                http = again;
            }
        }
    }

    fn next_write(&self, writer: usize, at: usize) -> Write {
        let stream = format!("s{writer}-{}", at % STREAMS);
        Write { id: Uuid::new_v4(), stream, filling: self.filling }
    }

    /// Remembers an answer. Returns whether it acknowledges the write.
    fn note(&self, write: Write, answer: std::io::Result<(u16, Value)>) -> bool {
        let mut known = self.known.lock();
        match answer {
            Ok((200, place)) => match (place["position"].as_i64(), place["globalPosition"].as_i64()) {
                (Some(position), Some(global)) => {
                    known.acknowledged_at.insert(write.id, Instant::now());
                    known.acknowledged.push((write, position, global));
                    return true;
                }
                _ => known.surprises.push(format!("200 {place}")),
            },
            Ok((503, _)) => known.refused.push(write),
            Ok((504, _)) | Err(_) => known.unanswered.push(write),
            Ok((status, error)) => {
                known.surprises.push(format!("a write is answered with {status} {error}"));
                known.unanswered.push(write);
            }
        }
        false
    }

    /// Writes a message, and repeats the write until it is acknowledged.
    pub(super) async fn until_written(&self, address: &str) -> Result<()> {
        let what = format!("namespace {} takes a write again", self.namespace);
        patiently(&what, async {
            let mut at = 0;
            loop {
                let write = self.next_write(0, at);
                let answer = match self.connect(address).await {
                    Ok(mut http) => http.call(&write.call()).await,
                    Err(error) => Err(error),
                };
                if self.note(write, answer) {
                    return;
                }
                at += 1;
                tokio::time::sleep(PAUSE).await;
            }
        })
        .await
    }

    /// Repeats unanswered writes with their ids, twice: each message is there once.
    pub(super) async fn retry_unanswered(&self, address: &str) -> Result<()> {
        let unanswered = std::mem::take(&mut self.known.lock().unanswered);
        let mut http = self.connect(address).await?;
        for write in unanswered {
            let place = call(&mut http, &write.call()).await?;
            ensure!(call(&mut http, &write.call()).await? == place, "a repeated write is answered with another place");
            let position = place["position"].as_i64().context("a position")?;
            let global = place["globalPosition"].as_i64().context("a position")?;
            self.known.lock().acknowledged.push((write, position, global));
        }
        Ok(())
    }

    /// Writes once, and returns the status of the answer, if there was one.
    pub(super) async fn write_once(&self, address: &str) -> Option<u16> {
        let write = self.next_write(0, 0);
        let mut http = self.connect(address).await.ok()?;
        let answer = patiently("a write is answered", http.call(&write.call())).await.ok()?;
        let status = answer.as_ref().ok().map(|(status, _)| *status);
        self.note(write, answer);
        status
    }

    /// Reads what a server serves from damaged files. Fails if it serves content that no writer wrote.
    pub(super) async fn read_damaged(&self, address: &str, killed: Instant) -> Result<Found> {
        let mut http = self.connect(address).await?;
        let mut found = Found::default();
        let all = found.read(&mut http, "").await?;
        let mut by_category = Vec::new();
        for writer in 0..WRITERS {
            by_category.extend(found.read(&mut http, &format!("s{writer}")).await?);
        }
        found.served = all.len();
        let known = self.known.lock();
        let mut served = HashMap::new();
        let written = known.acknowledged.iter().map(|(write, ..)| write);
        let written = written.chain(&known.unanswered).map(|write| (write.id.to_string(), write));
        let written: HashMap<String, &Write> = written.collect();
        for message in by_category.iter().chain(&all) {
            let id = text(&message[0])?;
            let write = written.get(id).with_context(|| format!("what nobody wrote is served: {message}"))?;
            let there = (&message[1], &message[2], &message[5]);
            let call = write.call();
            ensure!(there == (&call[1], &json!("T"), &call[2]["data"]), "{message} is served, {call} was written");
        }
        for message in &all {
            ensure!(served.insert(text(&message[0])?, &message[4]).is_none(), "it is served twice: {message}");
        }
        for (write, _, global) in &known.acknowledged {
            let age = killed.duration_since(known.acknowledged_at[&write.id]);
            match served.get(&*write.id.to_string()) {
                Some(place) => ensure!(**place == json!(global), "{write:?} was at {global} and is served at {place}"),
                None if age > MARKED_WITHIN => found.missing += 1,
                None => found.young += 1,
            }
        }
        Ok(found)
    }

    /// Compares the messages of a server with the answers of the writers.
    pub(super) async fn check(&self, address: &str) -> Result<()> {
        let mut http = self.connect(address).await?;
        let all = read_all(&mut http).await?;
        self.compare(&all)?;
        self.check_index(&mut http, &all).await
    }

    fn compare(&self, all: &[Value]) -> Result<()> {
        let known = self.known.lock();
        ensure!(known.surprises.is_empty(), "{} such: {}", known.surprises.len(), known.surprises[0]);
        let mut next: HashMap<&str, i64> = HashMap::new();
        let (mut ids, mut marks) = (HashSet::new(), HashMap::new());
        for (at, message) in all.iter().enumerate() {
            ensure!(message[4] == json!(at + 1), "the global positions have a gap before {message}");
            let position = next.entry(text(&message[1])?).or_default();
            ensure!(message[3] == json!(*position), "the positions of a stream have a gap before {message}");
            *position += 1;
            ensure!(ids.insert(text(&message[0])?), "an id is there twice: {message}");
            let mark = text(&message[5]["mark"])?;
            ensure!(marks.insert(mark, message).is_none(), "a write is there twice: {message}");
        }
        for (write, position, global) in &known.acknowledged {
            let message = marks.remove(&*write.id.to_string());
            let message = message.with_context(|| format!("an acknowledged write is lost: {write:?} at {global}"))?;
            let data = &write.call()[2]["data"];
            let there = (&message[1], &message[3], &message[4], &message[5]);
            ensure!(
                there == (&json!(write.stream), &json!(position), &json!(global), data),
                "an acknowledged write is at another place or changed: {write:?} became {message}"
            );
        }
        for write in &known.refused {
            ensure!(!marks.contains_key(&*write.id.to_string()), "a refused write is there: {write:?}");
        }
        let open: HashSet<String> = known.unanswered.iter().map(|write| write.id.to_string()).collect();
        let strange = marks.keys().find(|mark| !open.contains(**mark));
        ensure!(strange.is_none(), "there is what nobody wrote: {strange:?}");
        Ok(())
    }

    /// Checks that each stream, as the index has it, agrees with the log, and the counts too.
    async fn check_index(&self, http: &mut Http, all: &[Value]) -> Result<()> {
        let mut streams: HashMap<&str, Vec<&Value>> = HashMap::new();
        for message in all {
            streams.entry(text(&message[1])?).or_default().push(&message[0]);
        }
        for (stream, ids) in &streams {
            let version = call(http, &json!(["stream.version", stream])).await?;
            ensure!(
                version == json!(ids.len() - 1),
                "stream {stream} has version {version} and {} messages",
                ids.len()
            );
            let from = ids.len().saturating_sub(500);
            let page = call(http, &json!(["stream.get", stream, { "position": from, "batchSize": 500 }])).await?;
            let page: Vec<&Value> = page.as_array().context("a page")?.iter().map(|message| &message[0]).collect();
            ensure!(page == ids[from..], "stream {stream} read by itself is not what the log says");
        }
        let info = call(http, &json!(["ns.info", self.namespace])).await?;
        ensure!(info["messageCount"] == json!(all.len()), "{info} of {} messages", all.len());
        Ok(())
    }

    /// The numbers of acknowledged and of other writes.
    pub(super) fn counts(&self) -> (usize, usize) {
        let known = self.known.lock();
        (known.acknowledged.len(), known.refused.len() + known.unanswered.len())
    }

    /// A line about the writers' results.
    pub(super) fn tally(&self) -> String {
        let known = self.known.lock();
        let Known { acknowledged, refused, unanswered, .. } = &*known;
        format!("{} acknowledged, {} refused, {} open", acknowledged.len(), refused.len(), unanswered.len())
    }
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("{value} is no text"))
}

/// Calls a method, and retries while the storage is unavailable.
pub(super) async fn call(http: &mut Http, call: &Value) -> Result<Value> {
    match answer(http, call).await? {
        (200, result) => Ok(result),
        (status, error) => bail!("{} is answered with {status} {error}", call[0]),
    }
}

/// The same for any answer.
async fn answer(http: &mut Http, call: &Value) -> Result<(u16, Value)> {
    patiently(&format!("{} is answered", call[0]), async {
        loop {
            match http.call(call).await? {
                (503, _) => tokio::time::sleep(PAUSE).await,
                answer => return Ok(answer),
            }
        }
    })
    .await?
}

async fn read_all(http: &mut Http) -> Result<Vec<Value>> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let from = all.last().and_then(|message| message[4].as_i64()).unwrap_or(0) + 1;
        let page = call(http, &json!(["category.get", "", { "position": from, "batchSize": 1000 }])).await?;
        let page = page.as_array().context("a page")?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page.iter().cloned());
    }
}
