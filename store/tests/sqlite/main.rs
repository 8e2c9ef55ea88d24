//! The SQLite backend beyond the conformance suite: what it makes of damaged, old and foreign files.

mod backups;
mod checksums;
mod damaged_logs;
mod degraded;
mod directories;
mod earlier_logs;
mod full_disks;
mod groups;
mod index_files;
mod lost_ends;
mod lost_registries;
mod many_namespaces;
mod positions;
mod random_walk;
mod refusals;
mod repairs;
mod replacements;
mod restored_groups;
mod support;
mod tokens;
