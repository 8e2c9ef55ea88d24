//! Progress of long commands, on standard error if it is a terminal.

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

/// Progress of work that reports its own steps.
pub(crate) fn steps() -> ProgressBar {
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("{msg}: {human_pos} of {human_len}").expect("the template is right"));
    bar
}

fn bar(length: Option<u64>, known: &str, unknown: &str) -> ProgressBar {
    // The bar draws nothing if standard error is not a terminal.
    let (bar, template) = match length {
        Some(length) => (ProgressBar::new(length), format!("{{bar:30}} {known}")),
        None => (ProgressBar::new_spinner(), format!("{{spinner}} {unknown}")),
    };
    bar.set_style(ProgressStyle::with_template(&template).expect("the templates stand above"));
    bar
}
