//! The program's commands, each as a person would type it.

mod children;
mod client;
mod configuring;
mod consuming;
mod contexts;
mod doctor;
mod files;
mod groups;
mod hostile;
mod migrating;
mod promises;
mod starting;
mod status;
mod support;
mod tokens;
mod top;
