//! `GET /metrics`: all figures at this moment, as text for Prometheus. The database is asked about consumer groups alone, and seldom.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::Response;
use eventodb_protocol::VERSION;
use eventodb_store::figures::{BackendFigures, GroupSample, Latency, Reads, Sample, SelfTests, Subscriptions};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use http::request::Parts;

use crate::api::arrival::Arrival;
use crate::api::conclusion::conclude;
use crate::api::errors::Failure;
use crate::api::methods::method;
use crate::api::state::AppState;
use crate::api::{operator, reply};
use crate::http::Exchange;
use crate::observe::Record;
use crate::observe::metrics::table::*;
use crate::observe::metrics::{self, Text, Value, process};

/// Answers with all metrics.
pub(super) async fn answer(State(state): State<Arc<AppState>>, arrival: Arrival, request: Parts) -> Response {
    let mut record = arrival.record(const { method("/metrics") });
    let result = scrape(&state, &arrival.exchange, &request, &mut record).await;
    conclude(&state, &arrival, record, result)
}

async fn scrape(
    state: &AppState,
    exchange: &Exchange,
    request: &Parts,
    record: &mut Record,
) -> Result<Response, Failure> {
    if !state.config.metrics_public {
        operator::check(state, exchange, request, record).await?;
    }
    exchange.admit()?;
    let mut text = Text::default();
    write_requests(&mut text, state);
    write_connections(&mut text, state);
    let sample = state.store.sample();
    write_appends(&mut text, state, &sample);
    write_reads(&mut text, state, &sample);
    write_subscriptions(&mut text, state, &sample);
    write_groups(&mut text, state, &state.group_samples.get(&state.store).await);
    write_database(&mut text, &state.store.backend_figures(), state);
    write_server(&mut text, state);
    process::write(&mut text);
    let mut response = reply::text(text.finish());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    Ok(response)
}

fn write_requests(text: &mut Text, state: &AppState) {
    let requests = state.finished.requests();
    let mut series = text.series(REQUESTS);
    requests.statuses().for_each(|(method, status, count)| series.put(&[method, status], count));
    let mut series = text.series(REQUEST_DURATION);
    requests.durations().for_each(|(method, duration)| series.put_distribution(&[method], &duration));
    text.each(ERRORS, requests.errors().filter(|(_, count)| *count > 0));
    text.each(SHED, requests.shed());
}

fn write_connections(text: &mut Text, state: &AppState) {
    let traffic = state.watch.traffic();
    text.one(CONNECTIONS, state.watch.connections());
    text.one(CONNECTIONS_ACCEPTED, traffic.accepted.get());
    let refused = [("address", &traffic.refused_for_address), ("line", &traffic.refused_for_line)];
    text.each(CONNECTIONS_REFUSED, refused.map(|(reason, count)| (reason, count.get())));
    text.one(RECEIVED, traffic.received());
    text.one(SENT, traffic.sent());
    text.one(MEMORY_BUDGET, state.budget.whole());
    text.each(MEMORY_TAKEN, state.budget.shares());
}

fn write_server(text: &mut Text, state: &AppState) {
    text.series(BUILD_INFO).put(&[VERSION], 1_u64);
    let codes: BTreeSet<&str> = state.store.degraded().into_iter().map(|degraded| degraded.code).collect();
    text.each(DEGRADED, codes.into_iter().map(|code| (code, 1_u64)));
    let SelfTests { passed, failed, duration } = state.store.self_tests();
    text.each(SELF_TESTS, [("passed", passed), ("failed", failed)].map(|(outcome, count)| (outcome, count.get())));
    text.distribution(SELF_TEST_DURATION, &duration.distribution());
    let mut series = text.series(MEMORY_LIMIT);
    state.config.usable_memory.iter().for_each(|bytes| series.put(&[], *bytes));
    let mut series = text.series(CERTIFICATE_END);
    state.config.tls.iter().for_each(|tls| series.put(&[], tls.end().as_secs()));
    let fsync = if state.store.is_durable() { "on" } else { "off" };
    text.series(DURABILITY_INFO).put(&[fsync, state.store.backend_kind()], 1_u64);
}

fn write_appends(text: &mut Text, state: &AppState, sample: &Sample) {
    let figures = &state.store.figures().appends;
    let outcomes = [
        ("written", &figures.written),
        ("repeated", &figures.repeats),
        ("version", &figures.version_conflicts),
        ("condition", &figures.condition_conflicts),
        ("id", &figures.id_conflicts),
        ("fenced", &figures.fenced),
    ];
    text.each(APPENDS, outcomes.map(|(outcome, count)| (outcome, count.get())));
    text.one(APPENDED_MESSAGES, figures.messages.get());
    text.one(APPENDED_BYTES, figures.bytes.get());
    text.one(CONDITIONAL, figures.conditional.get());
    text.one(APPEND_ROUNDS, figures.rounds.get());
    text.one(QUEUE_DEPTH, sample.queued);
    write_latency(text, QUEUE_WAIT, QUEUE_WAIT_MAX, &figures.wait);
    let refused = [("age", &figures.refused_for_age), ("room", &figures.refused_for_room)];
    text.each(QUEUE_REFUSED, refused.map(|(reason, count)| (reason, count.get())));
    text.distribution(BATCH_MESSAGES, &figures.batch.distribution());
    write_latency(text, COMMIT, COMMIT_MAX, &figures.commit);
    text.one(UNKNOWN_OUTCOMES, figures.unknown.get());
    text.one(TURNS, figures.turns.get());
    text.one(LOST_RACES, figures.lost_races.get());
    let lookups = [("hit", &figures.version_hits), ("miss", &figures.version_misses)];
    text.each(VERSION_CACHE, lookups.map(|(result, count)| (result, count.get())));
    let labelled = state.labels.of_namespaces(&sample.heads);
    text.each(HEAD, labelled.iter().map(|(name, head)| (&**name, *head)));
}

/// A duration, and the longest one of the last minute.
fn write_latency(text: &mut Text, all: &'static Metric, recent: &'static Metric, latency: &Latency) {
    text.distribution(all, &latency.all.distribution());
    text.each(recent, [("1m", latency.recent.get(Instant::now()))]);
}

fn write_reads(text: &mut Text, state: &AppState, sample: &Sample) {
    let Reads { tail, storage } = &state.store.figures().reads;
    let sources = [("tail", tail), ("storage", storage)];
    text.each(SLICES, sources.map(|(source, of)| (source, of.slices.get())));
    text.each(SLICE_MESSAGES, sources.map(|(source, of)| (source, of.messages.get())));
    let (used, most) = sample.tail_bytes;
    text.one(TAIL, used);
    text.one(TAIL_MOST, most);
}

fn write_subscriptions(text: &mut Text, state: &AppState, sample: &Sample) {
    let Subscriptions { of_stream, of_categories, of_all, pokes, delay } = &state.store.figures().subscriptions;
    let kinds = [("stream", of_stream), ("category", of_categories), ("all", of_all)];
    text.each(SUBSCRIPTIONS, kinds.map(|(kind, count)| (kind, count.get())));
    text.one(POKES, pokes.get());
    write_latency(text, POKE_DELAY, POKE_DELAY_MAX, delay);
    text.one(SUBSCRIPTION_LAG, sample.lag);
}

fn write_groups(text: &mut Text, state: &AppState, samples: &[GroupSample]) {
    write_samples(text, GROUP_LAG, samples, |of| of.lag.into());
    write_samples(text, GROUP_LAG_AGE, samples, |of| of.lag_age.into());
    write_samples(text, GROUP_PARKED, samples, |of| of.parked.into());
    write_samples(text, GROUP_PARKED_AGE, samples, |of| of.parked_age.into());
    write_samples(text, GROUP_UNOWNED, samples, |of| of.unowned.into());
    let groups = &state.store.figures().groups;
    text.distribution(GROUP_HANDLING, &groups.handling.all.distribution());
    text.one(GROUP_FENCED, groups.fenced.get());
    text.one(GROUP_EXPIRED, groups.expired.get());
    text.one(GROUP_REBALANCES, groups.rebalances.get());
}

fn write_samples(
    text: &mut Text,
    metric: &'static Metric,
    samples: &[GroupSample],
    value: impl Fn(&GroupSample) -> Value,
) {
    let mut series = text.series(metric);
    samples.iter().for_each(|of| series.put(&[&of.namespace, &of.group], value(of)));
}

fn write_database(text: &mut Text, figures: &BackendFigures, state: &AppState) {
    let pools = &figures.pools;
    text.one(NOT_INDEXED, figures.not_indexed);
    text.each(POOL_LIMIT, pools.iter().map(|pool| (pool.name, pool.most)));
    text.each(POOL_OPEN, pools.iter().map(|pool| (pool.name, pool.open)));
    text.each(POOL_IDLE, pools.iter().map(|pool| (pool.name, pool.idle)));
    text.each(POOL_WAITING, pools.iter().map(|pool| (pool.name, pool.waiting)));
    let mut series = text.series(POOL_ACQUIRE);
    pools.iter().for_each(|pool| series.put_distribution(&[pool.name], &pool.acquire));
    let mut series = text.series(DISK_FREE);
    figures.disk_free.iter().for_each(|bytes| series.put(&[], *bytes));
    text.one(NOTIFIED, figures.notifications);
    text.one(HINTS, state.store.figures().hints.get());
}
