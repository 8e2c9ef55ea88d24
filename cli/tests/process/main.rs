//! The real binary as a process: killed, stopped, watched at its system calls, backed up, on a
//! PostgreSQL that comes and goes, and used through the client by processes that are killed as well.

mod backups;
mod checksums;
mod children;
mod client;
mod crash;
mod descriptors;
mod equals;
mod faults;
mod http;
mod index;
mod load;
mod matrix;
mod memory;
mod opening;
mod outages;
mod planted;
mod proxy;
mod read_only;
mod refusals;
mod server;
mod stopping;
mod strace;
