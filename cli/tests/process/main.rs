//! The real binary as a process: killed, stopped, watched at its system calls, backed up, and used
//! through the client by processes that are killed as well.

mod backups;
mod client;
mod crash;
mod http;
mod server;
mod stopping;
mod strace;
