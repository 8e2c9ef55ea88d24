//! Standard output: lines for people, or JSON lines for programs.

use std::borrow::Cow;
use std::io::{ErrorKind, IsTerminal as _, Write as _};

use eventodb_client::Message;
use serde_json::Value;

/// Goes to the first line of a terminal.
const HOME: &str = "\x1b[H";
/// Clears a terminal from here to the end of the line.
const CLEAR_LINE: &str = "\x1b[K";
/// Clears a terminal below.
const CLEAR_BELOW: &str = "\x1b[J";

/// Standard output. If its reader goes away, the command ends without an error.
#[derive(Debug)]
pub(crate) struct Output {
    out: std::io::BufWriter<std::io::Stdout>,
    json: bool,
    is_terminal: bool,
    colours: bool,
}

/// The reader of standard output has gone.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output")]
pub(crate) struct ReaderGone;

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let colours = is_terminal && std::env::var_os("NO_COLOR").is_none();
        Self { out: std::io::BufWriter::new(std::io::stdout()), json, is_terminal, colours }
    }

    /// Prints one message.
    ///
    /// # Errors
    /// [`ReaderGone`], or another failure to write.
    pub(crate) fn message(&mut self, message: &Message) -> anyhow::Result<()> {
        let line = if self.json { json_line(message) } else { self.readable(message) };
        self.line(&json_for(self.is_terminal, &line))
    }

    /// Prints a value as JSON, or as one `readable` line for people.
    ///
    /// # Errors
    /// [`ReaderGone`], or another failure to write.
    pub(crate) fn value(&mut self, value: &Value, readable: impl FnOnce() -> String) -> anyhow::Result<()> {
        self.styled(value, || visible(&readable()))
    }

    /// Prints a value as JSON, or as `readable` lines for people. A line break in the text of another makes no line.
    ///
    /// # Errors
    /// [`ReaderGone`], or another failure to write.
    pub(crate) fn lines(&mut self, value: &Value, readable: impl FnOnce() -> Vec<String>) -> anyhow::Result<()> {
        self.styled(value, || readable().iter().map(|line| visible(line)).collect::<Vec<_>>().join("\n"))
    }

    /// As [`Self::lines`], with a text that may have colours: the parts of it that others wrote must be [`visible`].
    ///
    /// # Errors
    /// [`ReaderGone`], or another failure to write.
    pub(crate) fn styled(&mut self, value: &Value, readable: impl FnOnce() -> String) -> anyhow::Result<()> {
        if self.json { self.json(value) } else { self.line(&readable()) }
    }

    fn json(&mut self, value: &Value) -> anyhow::Result<()> {
        let line = value.to_string();
        self.line(&json_for(self.is_terminal, &line))
    }

    /// Prints a table with a head, or its rows as one JSON array.
    ///
    /// # Errors
    /// [`ReaderGone`], or another failure to write.
    pub(crate) fn table(&mut self, json: &Value, head: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
        if self.json {
            return self.json(json);
        }
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain(head.get(column).map(|cell| cell.chars().count())).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
        for row in std::iter::once(&head).chain(rows) {
            let cell = |(cell, &width): (&String, &usize)| format!("{:<width$}", visible(cell));
            let cells: Vec<String> = row.iter().zip(&widths).map(cell).collect();
            self.line(cells.join("  ").trim_end())?;
        }
        Ok(())
    }

    /// Prints a line for people, beside a table.
    ///
    /// # Errors
    /// [`ReaderGone`], or another failure to write.
    pub(crate) fn note(&mut self, text: &str) -> anyhow::Result<()> {
        if self.json { Ok(()) } else { self.line(&visible(text)) }
    }

    /// Whether a person looks at it.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal && !self.json
    }

    /// The text with the colours the other way round, if the terminal has any.
    pub(crate) fn inverse(&self, text: &str) -> String {
        if self.colours { format!("\x1b[7m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The text in a colour of ECMA-48 (31 red, 33 yellow), if the terminal has any.
    pub(crate) fn coloured(&self, text: &str, colour: u8) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Draws a terminal anew. What stands there is overwritten and not cleared first, so that nothing flickers.
    ///
    /// # Errors
    /// [`ReaderGone`], or another failure to write.
    pub(crate) fn screen(&mut self, lines: &[String]) -> anyhow::Result<()> {
        checked(write!(self.out, "{HOME}"))?;
        lines.iter().try_for_each(|line| self.line(&format!("{line}{CLEAR_LINE}")))?;
        checked(write!(self.out, "{CLEAR_BELOW}"))?;
        self.flush()
    }

    /// Prints a line.
    ///
    /// # Errors
    /// [`ReaderGone`], or another failure to write.
    pub(crate) fn line(&mut self, line: &str) -> anyhow::Result<()> {
        checked(writeln!(self.out, "{line}"))
    }

    /// Flushes the printed lines.
    ///
    /// # Errors
    /// [`ReaderGone`], or another failure to write.
    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        checked(self.out.flush())
    }

    fn readable(&self, message: &Message) -> String {
        let metadata = in_one_line(message.metadata_json().unwrap_or_default());
        let (position, time) = (message.global_position(), message.time_text());
        let (stream, kind) = (visible(message.stream()), visible(message.kind()));
        let data = in_one_line(message.data_json());
        let place = format!("{stream}@{}", message.position());
        if self.colours {
            format!(
                "\x1b[2m{position:>8} {time}\x1b[0m \x1b[36m{place}\x1b[0m \x1b[1m{kind}\x1b[0m {data} \x1b[2m{metadata}\x1b[0m"
            )
        } else {
            format!("{position:>8} {time} {place} {kind} {data} {metadata}").trim_end().to_owned()
        }
    }
}

/// Ends a command: flushes, and treats a reader that has gone as success.
///
/// # Errors
/// Any other error.
pub(crate) fn finish(result: anyhow::Result<()>, mut output: Output) -> anyhow::Result<std::process::ExitCode> {
    match result.and_then(|()| output.flush()) {
        Err(error) if !error.is::<ReaderGone>() => Err(error),
        _ => Ok(std::process::ExitCode::SUCCESS),
    }
}

/// Prints the JSON of a command that is done.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn print_json(value: &Value) -> anyhow::Result<std::process::ExitCode> {
    let mut output = Output::new(true);
    let printed = output.value(value, String::new);
    finish(printed, output)
}

/// A message as one line of JSON, with data and metadata byte for byte.
pub(crate) fn json_line(message: &Message) -> String {
    let text = |text: &str| Value::from(text).to_string();
    let line = format!(
        r#"{{"id":"{}","stream":{},"type":{},"position":{},"globalPosition":{},"data":{},"metadata":{},"time":{}}}"#,
        message.id(),
        text(message.stream()),
        text(message.kind()),
        message.position(),
        message.global_position(),
        message.data_json(),
        message.metadata_json().unwrap_or("null"),
        text(message.time_text()),
    );
    in_one_line(&line).into_owned()
}

/// JSON in one line: line breaks in it are only between its tokens.
fn in_one_line(json: &str) -> Cow<'_, str> {
    if json.contains(['\n', '\r']) { Cow::Owned(json.replace(['\n', '\r'], " ")) } else { Cow::Borrowed(json) }
}

/// JSON as a terminal gets it, or byte for byte as a program does.
pub(crate) fn json_for(is_terminal: bool, json: &str) -> Cow<'_, str> {
    if is_terminal { without_c1(json) } else { Cow::Borrowed(json) }
}

/// The JSON with DEL and the control characters U+0080 to U+009F as JSON escapes, because terminals obey them and JSON
/// allows them unescaped. They occur only in strings, so that the value stays the same. All other control characters
/// are escaped in JSON anyway.
fn without_c1(json: &str) -> Cow<'_, str> {
    let steers = |c: char| ('\u{7f}'..='\u{9f}').contains(&c);
    if !json.contains(steers) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if steers(c) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// The text without control characters, which could control the terminal.
pub(crate) fn visible(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A text of several lines, such as the error page of a proxy, as one [`visible`] line.
pub(crate) fn one_line(text: &str) -> String {
    visible(&text.replace("\r\n", " ").replace(['\n', '\r', '\t'], " "))
}

fn checked(result: std::io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        result => Ok(result?),
    }
}

/// Prints a line on standard error, above a progress bar if there is one.
pub(crate) fn warn(progress: &indicatif::ProgressBar, text: &str) {
    progress.suspend(|| {
        // If that fails, there is no other place to report it.
        let _ = writeln!(std::io::stderr(), "{}", one_line(text));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped_as_json_has_it() {
        assert_eq!(without_c1("{\"a\":\"\u{9b}31m\u{7f}é\"}"), r#"{"a":"\u009b31m\u007fé"}"#);
        assert!(matches!(without_c1("é"), Cow::Borrowed(_)));
        // A program gets what the server sent.
        assert_eq!(json_for(false, "\"\u{9b}\""), "\"\u{9b}\"");
    }

    #[test]
    fn an_error_is_one_line_that_steers_nothing() {
        assert_eq!(one_line("a\r\nb\n\tc\u{1b}[2J\u{9b}31m\u{7}"), "a b  c\u{fffd}[2J\u{fffd}31m\u{fffd}");
    }
}
