//! Tests of what only this backend does; what every backend must do is in the conformance suite.

mod bystanders;
mod changes;
mod degraded;
mod encryption;
mod failover;
mod faults;
mod fixture;
mod hints;
mod log;
mod migrations;
mod namespaces;
mod outage;
mod outcomes;
mod pair;
mod plans;
mod pooler;
mod positions;
mod quotas;
mod read_only;
mod replacing;
mod search_path;
mod servers;
mod sessions;
mod staleness;
mod start;
mod tokens;
