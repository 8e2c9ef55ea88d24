//! How far a long command is: on standard error, when a terminal looks.

use indicatif::{ProgressBar, ProgressStyle};

/// Progress towards a known number of messages, or towards an unknown one.
pub(crate) fn messages(length: Option<u64>) -> ProgressBar {
    bar(
        length,
        "{human_pos}/{human_len} messages  {per_sec}  {eta} left  {msg}",
        "{human_pos} messages  {per_sec}  {msg}",
    )
}

/// Progress through an input of known or unknown size.
pub(crate) fn bytes(length: Option<u64>) -> ProgressBar {
    bar(
        length,
        "{decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left  {msg}",
        "{decimal_bytes}  {decimal_bytes_per_sec}  {msg}",
    )
}

fn bar(length: Option<u64>, known: &str, unknown: &str) -> ProgressBar {
    // Draws nothing where standard error is no terminal.
    let (bar, template) = match length {
        Some(length) => (ProgressBar::new(length), format!("{{bar:30}} {known}")),
        None => (ProgressBar::new_spinner(), format!("{{spinner}} {unknown}")),
    };
    bar.set_style(ProgressStyle::with_template(&template).expect("the templates stand above"));
    bar
}
