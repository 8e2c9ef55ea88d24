//! Tests of the real binary as a process: it is killed, stopped, traced and backed up, runs on a PostgreSQL that fails,
//! and is used through the client by processes that are killed too.

mod backups;
mod certificates;
mod checksums;
mod children;
mod client;
mod consumers;
mod crash;
mod descriptors;
mod equals;
mod faults;
mod http;
mod incidents;
mod index;
mod load;
mod managed;
mod matrix;
mod memory;
mod opening;
mod outages;
mod planted;
mod read_only;
mod refusals;
mod server;
mod steering;
mod stopping;
mod strace;
mod tls;
mod tokens;
mod upgrade;
