//! The real binary as a process: killed, stopped, watched at its system calls, and backed up.

mod backups;
mod crash;
mod http;
mod server;
mod stopping;
mod strace;
