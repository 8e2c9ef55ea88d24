//! The table of all metrics: name, type, unit, labels and help of each. `/metrics` is written by it, and
//! `docs/METRICS.md` is generated from it.

/// What is measured under one name.
#[derive(Debug)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) unit: Unit,
    pub(crate) labels: &'static [&'static str],
    /// One sentence, without a line break.
    pub(crate) help: &'static str,
}

/// The types of Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It only grows, and begins at 0 when the server starts.
    Counter,
    /// It has a value at the moment of the scrape.
    Gauge,
    /// Counts of values by upper bounds.
    Histogram,
}

/// In what the values are. Base units only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A number of things.
    Count,
    Seconds,
    Bytes,
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Declares the metrics, in sections: `CONSTANT = Kind Unit "name" ["label", …] "help";`.
macro_rules! metrics {
    ($($section:literal { $($constant:ident = $kind:ident $unit:ident $name:literal [$($label:literal),*] $help:literal;)* })*) => {
        $($(pub(crate) const $constant: &Metric = &Metric {
            name: $name, kind: Kind::$kind, unit: Unit::$unit, labels: &[$($label),*], help: $help,
        };)*)*

        /// All metrics, by section.
        #[cfg(test)]
        pub(crate) const SECTIONS: &[(&str, &[&Metric])] = &[$(($section, &[$($constant),*])),*];
    };
}

metrics! {
    "Requests" {
        REQUESTS = Counter Count "eventodb_requests_total" ["method", "status"]
            "Requests that were answered, by what they asked for and the status of the reply.";
        REQUEST_DURATION = Histogram Seconds "eventodb_request_duration_seconds" ["method"]
            "Time from the head of a request to the head of its reply, without the time that it asked to wait (`waitMs`).";
        ERRORS = Counter Count "eventodb_errors_total" ["code"]
            "Requests that were refused or failed, by the code of the protocol.";
        SHED = Counter Count "eventodb_shed_total" ["reason"]
            "Requests that were refused because of load: a full queue, no memory, no free place, or too many in a second.";
    }
    "Connections" {
        CONNECTIONS = Gauge Count "eventodb_connections" []
            "Open connections.";
        CONNECTIONS_ACCEPTED = Counter Count "eventodb_connections_accepted_total" []
            "Connections that were accepted.";
        CONNECTIONS_REFUSED = Counter Count "eventodb_connections_refused_total" ["reason"]
            "Connections that were closed at once: their address has as many as it may, or too many wait for a place.";
        RECEIVED = Counter Bytes "eventodb_received_bytes_total" []
            "Bytes that came in on all connections, with HTTP heads and TLS.";
        SENT = Counter Bytes "eventodb_sent_bytes_total" []
            "Bytes that went out on all connections, with HTTP heads and TLS.";
        MEMORY_BUDGET = Gauge Bytes "eventodb_memory_budget_bytes" []
            "The memory budget for what waits for clients (--memory-budget).";
        MEMORY_LIMIT = Gauge Bytes "eventodb_memory_limit_bytes" []
            "Memory that the process may use: the machine's, or what its control groups allow.";
        MEMORY_TAKEN = Gauge Bytes "eventodb_memory_taken_bytes" ["share"]
            "What is taken of the memory budget: by connections, by requests without a valid token, and by namespaces.";
    }
    "Appends" {
        APPENDS = Counter Count "eventodb_appends_total" ["outcome"]
            "Appends that were decided: written, repeated (an earlier one was), or refused for a version, a condition, an id, or a right to a group that has ended.";
        APPENDED_MESSAGES = Counter Count "eventodb_appended_messages_total" []
            "Messages that this server wrote, imported ones included.";
        APPENDED_BYTES = Counter Bytes "eventodb_appended_bytes_total" []
            "Bytes of text of these messages.";
        CONDITIONAL = Counter Count "eventodb_conditional_appends_total" []
            "Appends that had conditions on messages.";
        APPEND_ROUNDS = Counter Count "eventodb_append_rounds_total" []
            "Times that an append was looked up and decided once more, because others wrote or changed its group meanwhile.";
        QUEUE_DEPTH = Gauge Count "eventodb_append_queue_depth" []
            "Appends that wait for a batch.";
        QUEUE_WAIT = Histogram Seconds "eventodb_append_queue_wait_seconds" []
            "Time from the arrival of an append to its batch.";
        QUEUE_WAIT_MAX = Gauge Seconds "eventodb_append_queue_wait_recent_max_seconds" ["window"]
            "The longest wait for a batch in the window.";
        QUEUE_REFUSED = Counter Count "eventodb_append_queue_refused_total" ["reason"]
            "Appends that the queue refused: earlier ones wait for too long (age), or no room came free (room).";
        BATCH_MESSAGES = Histogram Count "eventodb_batch_messages" []
            "Messages of a batch that was committed.";
        COMMIT = Histogram Seconds "eventodb_commit_duration_seconds" []
            "Time from the submission of a batch to its commit.";
        COMMIT_MAX = Gauge Seconds "eventodb_commit_recent_max_seconds" ["window"]
            "The longest commit in the window.";
        UNKNOWN_OUTCOMES = Counter Count "eventodb_unknown_outcomes_total" []
            "Batches whose outcome had to be found out.";
        TURNS = Counter Count "eventodb_append_turns_total" []
            "Times that this server waited for its turn to append, because several servers append to one log.";
        LOST_RACES = Counter Count "eventodb_lost_races_total" []
            "Batches that lost their race with a batch of another server.";
        VERSION_CACHE = Counter Count "eventodb_version_cache_lookups_total" ["result"]
            "Versions of streams that appends needed, by whether the sequencer remembered them.";
        HEAD = Gauge Count "eventodb_head" ["namespace"]
            "Global position of the last message of each namespace in use: 100 have a series of their own, and `other` is the sum of the rest.";
        NOT_INDEXED = Gauge Count "eventodb_index_lag_messages" []
            "Messages that the index on the disk does not have yet (SQLite).";
    }
    "Reads" {
        SLICES = Counter Count "eventodb_read_slices_total" ["source"]
            "Slices of messages that were read, from the tail in memory or from the storage.";
        SLICE_MESSAGES = Counter Count "eventodb_read_messages_total" ["source"]
            "Messages in these slices.";
        TAIL = Gauge Bytes "eventodb_tail_bytes" []
            "Memory that the newest messages of all logs take.";
        TAIL_MOST = Gauge Bytes "eventodb_tail_limit_bytes" []
            "Memory that they may take.";
    }
    "Subscriptions" {
        SUBSCRIPTIONS = Gauge Count "eventodb_subscriptions" ["kind"]
            "Open subscriptions: to a stream, to categories, or to all messages.";
        POKES = Counter Count "eventodb_pokes_total" []
            "Pokes that were handed to connections.";
        POKE_DELAY = Histogram Seconds "eventodb_poke_delay_seconds" []
            "Time from when a message can be read to when its poke is handed to a connection, of subscriptions that are at the head.";
        POKE_DELAY_MAX = Gauge Seconds "eventodb_poke_delay_recent_max_seconds" ["window"]
            "The longest such delay in the window.";
        SUBSCRIPTION_LAG = Gauge Count "eventodb_subscription_lag_max" []
            "Messages between the head and the cursor of the slowest subscription that has something to read.";
    }
    "Consumer groups" {
        GROUP_LAG = Gauge Count "eventodb_group_lag_messages" ["namespace", "group"]
            "Messages that are neither handled nor in a parked stream, counted up to about 20,000. The first 100 groups by namespace and name have series, each at most 10 seconds old.";
        GROUP_LAG_AGE = Gauge Seconds "eventodb_group_lag_seconds" ["namespace", "group"]
            "Age of the oldest of these messages.";
        GROUP_PARKED = Gauge Count "eventodb_group_parked_streams" ["namespace", "group"]
            "Parked streams.";
        GROUP_PARKED_AGE = Gauge Seconds "eventodb_group_parked_oldest_seconds" ["namespace", "group"]
            "How long the stream that was parked first has been.";
        GROUP_UNOWNED = Gauge Count "eventodb_group_partitions_unowned" ["namespace", "group"]
            "Partitions that no member owns.";
        GROUP_HANDLING = Histogram Seconds "eventodb_group_handling_seconds" []
            "Time from when messages of a partition were read through this server to the checkpoint behind them.";
        GROUP_FENCED = Counter Count "eventodb_group_fenced_total" []
            "Calls of members that were refused because their right has ended. Appends are not among them.";
        GROUP_EXPIRED = Counter Count "eventodb_group_leases_expired_total" []
            "Members that were ended because they did not call in time.";
        GROUP_REBALANCES = Counter Count "eventodb_group_rebalances_total" []
            "Times that partitions were asked back or dealt out.";
    }
    "The database" {
        POOL_LIMIT = Gauge Count "eventodb_pool_limit" ["pool"]
            "Connections that a pool may have open (PostgreSQL).";
        POOL_OPEN = Gauge Count "eventodb_pool_open" ["pool"]
            "Connections of a pool that are open.";
        POOL_IDLE = Gauge Count "eventodb_pool_idle" ["pool"]
            "Open connections of a pool that nobody uses.";
        POOL_WAITING = Gauge Count "eventodb_pool_waiting" ["pool"]
            "Callers that wait for a connection of a pool.";
        POOL_ACQUIRE = Histogram Seconds "eventodb_pool_acquire_seconds" ["pool"]
            "Time that callers waited for a connection of a pool.";
        DISK_FREE = Gauge Bytes "eventodb_disk_free_bytes" []
            "Bytes that are free on the disk of the data directory (SQLite), as of the last second.";
        NOTIFIED = Counter Count "eventodb_notifications_sent_total" []
            "Notifications that were sent to other servers (PostgreSQL).";
        HINTS = Counter Count "eventodb_notifications_received_total" []
            "Notifications of other servers that were taken.";
    }
    "The process" {
        BUILD_INFO = Gauge Count "eventodb_build_info" ["version"]
            "Always 1; the label has the version of the server.";
        DEGRADED = Gauge Count "eventodb_degraded" ["code"]
            "1 for each reason why writes are refused, or soon will be, as `/health/ready` tells it; not for the read-only mode of the server, which somebody has chosen.";
        SELF_TESTS = Counter Count "eventodb_self_tests_total" ["outcome"]
            "Tests of the server by itself: a write, and its poke. One that takes more than 5 seconds has failed.";
        SELF_TEST_DURATION = Histogram Seconds "eventodb_self_test_duration_seconds" []
            "Time from the append of such a test to its poke.";
        CERTIFICATE_END = Gauge Seconds "eventodb_tls_certificate_end_timestamp_seconds" []
            "When the TLS certificate in use ends, or the first of those behind it, in seconds since 1970.";
        DURABILITY_INFO = Gauge Count "eventodb_durability_info" ["fsync", "backend"]
            "Always 1; the labels say whether an acknowledged write is on the disk, and on which backend.";
        PROCESS_CPU = Counter Seconds "process_cpu_seconds_total" []
            "CPU time of the process, in user and system mode.";
        PROCESS_RESIDENT = Gauge Bytes "process_resident_memory_bytes" []
            "Memory of the process that is resident.";
        PROCESS_VIRTUAL = Gauge Bytes "process_virtual_memory_bytes" []
            "Virtual memory of the process.";
        PROCESS_FDS = Gauge Count "process_open_fds" []
            "Open file descriptors of the process.";
        PROCESS_MAX_FDS = Gauge Count "process_max_fds" []
            "File descriptors that the process may have.";
        PROCESS_THREADS = Gauge Count "process_threads" []
            "Threads of the process.";
        PROCESS_START = Gauge Seconds "process_start_time_seconds" []
            "When the process started, in seconds since 1970.";
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const DOCUMENT: &str = "docs/METRICS.md";

    const INTRODUCTION: &str = "# Metrics

`GET /metrics` answers in the text format of Prometheus. It needs a token of `default` with the right `read` in all
categories; with `--metrics-public` it needs none. A scrape reads counters in memory. How consumer
groups stand is asked of the database, at most once in ten seconds.

All metrics are in base units. A counter begins at 0 when the server starts. A series with labels appears with its first
event, so that a server with a few methods in use has a few series.

<!-- This page is generated from the table in server/src/observe/metrics/table.rs:
     EVENTODB_BLESS=1 cargo test -p eventodb-server --lib metrics::table -->
";

    fn document() -> String {
        let mut document = INTRODUCTION.to_owned();
        for (section, metrics) in SECTIONS {
            write!(document, "\n## {section}\n\n| name | type | labels | meaning |\n|---|---|---|---|\n")
                .expect("a string");
            for Metric { name, kind, labels, help, .. } in *metrics {
                let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
                let (kind, labels) = (kind.as_str(), labels.join(", "));
                writeln!(document, "| `{name}` | {kind} | {labels} | {help} |").expect("a string");
            }
        }
        document
    }

    #[test]
    fn the_document_is_generated_from_the_table() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(DOCUMENT);
        if std::env::var_os("EVENTODB_BLESS").is_some() {
            std::fs::write(&path, document()).expect("the document is written");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == document(), "{DOCUMENT} differs from the table; the page says how it is generated");
    }

    #[test]
    fn names_are_those_that_prometheus_recommends() {
        let mut names = std::collections::HashSet::new();
        for Metric { name, kind, unit, help, .. } in SECTIONS.iter().flat_map(|(_, metrics)| *metrics) {
            assert!(names.insert(name), "{name} is there twice");
            assert!(name.starts_with("eventodb_") || name.starts_with("process_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            let base = name.trim_end_matches("_total");
            assert_eq!(base.ends_with("_seconds"), *unit == Unit::Seconds, "{name}");
            assert_eq!(base.ends_with("_bytes"), *unit == Unit::Bytes, "{name}");
            assert!(help.ends_with('.') && !help.contains(['\n', '|', '\\']), "{name}: {help}");
        }
    }
}
