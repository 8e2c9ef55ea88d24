//! What the store tells of itself: what it found in memory, its database, and who reads along. The figures are those of
//! `/metrics`.

use std::time::{Duration, Instant};

use eventodb_protocol::performance::{
    Cache, Database, DatabasePool, GroupFigures, Groups, Hits, Subscriptions, Timing,
};
use eventodb_store::figures::{Distribution, GroupSample, Latency, PoolFigures};

use crate::api::state::AppState;

/// `GET /api/v1/performance/cache`.
pub(super) fn cache(state: &AppState) -> Cache {
    let figures = state.store.figures();
    let (used, most) = state.store.sample().tail_bytes;
    Cache {
        tail_bytes: used,
        tail_limit_bytes: most,
        reads: hits(figures.reads.tail.slices.get(), figures.reads.storage.slices.get()),
        versions: hits(figures.appends.version_hits.get(), figures.appends.version_misses.get()),
    }
}

/// `GET /api/v1/performance/database`.
pub(super) fn database(state: &AppState) -> Database {
    let (appends, backend) = (&state.store.figures().appends, state.store.backend_figures());
    Database {
        backend: state.store.backend_kind().to_owned(),
        fsync: state.store.is_durable(),
        queued: state.store.sample().queued,
        queue_wait: timing(&appends.wait),
        commit: timing(&appends.commit),
        messages: appends.messages.get(),
        not_indexed: backend.not_indexed,
        pools: backend.pools.iter().map(pool).collect(),
    }
}

/// `GET /api/v1/performance/groups`.
pub(super) async fn groups(state: &AppState) -> Groups {
    let mut groups: Vec<_> = state.group_samples.get(&state.store).await.iter().map(group).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.lag_messages));
    let figures = state.store.figures();
    let subscriptions = &figures.subscriptions;
    Groups {
        groups,
        fenced: figures.groups.fenced.get(),
        expired: figures.groups.expired.get(),
        rebalances: figures.groups.rebalances.get(),
        subscriptions: Subscriptions {
            stream: subscriptions.of_stream.get(),
            category: subscriptions.of_categories.get(),
            all: subscriptions.of_all.get(),
            pokes: subscriptions.pokes.get(),
            poke_delay: timing(&subscriptions.delay),
            slowest_lag: state.store.sample().lag,
        },
    }
}

fn group(sample: &GroupSample) -> GroupFigures {
    GroupFigures {
        namespace: sample.namespace.to_string(),
        group: sample.group.to_string(),
        lag_messages: sample.lag,
        lag_seconds: sample.lag_age.as_secs_f64(),
        parked_streams: sample.parked,
        parked_seconds: sample.parked_age.as_secs_f64(),
        unowned_partitions: sample.unowned,
    }
}

fn pool(of: &PoolFigures) -> DatabasePool {
    DatabasePool {
        name: of.name.to_owned(),
        limit: of.most as u64,
        open: of.open as u64,
        idle: of.idle as u64,
        waiting: of.waiting,
        utilization_percent: percent(of.open.saturating_sub(of.idle) as u64, of.most as u64),
        acquired: of.acquire.count(),
        average_acquire_ms: average_ms(&of.acquire),
    }
}

fn hits(hits: u64, misses: u64) -> Hits {
    Hits { hits, misses, hit_percent: percent(hits, hits + misses) }
}

fn timing(of: &Latency) -> Timing {
    let all = of.all.distribution();
    let recent_max_ms = millis(of.recent.get(Instant::now()));
    Timing { count: all.count(), average_ms: average_ms(&all), recent_max_ms }
}

fn average_ms(of: &Distribution) -> f64 {
    match of.count() {
        0 => 0.0,
        count => millis(Duration::from_nanos(of.sum / count)),
    }
}

/// With three decimals.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 * 1e5 / whole as f64).round() / 1e3 }
}

/// With fractions.
pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e6
}
