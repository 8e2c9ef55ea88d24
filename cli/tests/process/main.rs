//! The real binary as a process: killed, stopped, watched at its system calls, backed up, and on a
//! PostgreSQL that comes and goes.

mod backups;
mod crash;
mod equals;
mod http;
mod load;
mod outages;
mod server;
mod stopping;
mod strace;
