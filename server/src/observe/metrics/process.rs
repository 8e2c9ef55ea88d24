//! What Linux tells of this process, under the names that all clients of Prometheus use. Elsewhere these metrics have no
//! series.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};

use super::table::{
    Metric, PROCESS_CPU, PROCESS_FDS, PROCESS_MAX_FDS, PROCESS_RESIDENT, PROCESS_START, PROCESS_THREADS,
    PROCESS_VIRTUAL,
};
use super::text::{Text, Value};

/// The fields of `/proc/self/stat` that follow the name of the program, by their numbers in `proc(5)`, less 3.
const UTIME: usize = 14 - 3;
const STIME: usize = 15 - 3;
const THREADS: usize = 20 - 3;
const START: usize = 22 - 3;
const VIRTUAL: usize = 23 - 3;
const RESIDENT: usize = 24 - 3;

/// What Linux tells. What it does not tell is none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Process {
    /// In user and system mode.
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) virtual_bytes: Option<u64>,
    pub(crate) threads: Option<u64>,
    pub(crate) open_fds: Option<u64>,
    /// In clock ticks since the machine started.
    started: Option<u64>,
}

impl Process {
    /// Reads it now.
    pub(crate) fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name may have spaces and parentheses.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let field = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Self {
            cpu_seconds: field(UTIME).zip(field(STIME)).map(|(user, system)| seconds(user + system)),
            resident_bytes: field(RESIDENT).map(|pages| pages * page_size() as u64),
            virtual_bytes: field(VIRTUAL),
            threads: field(THREADS),
            open_fds: open_descriptors(),
            started: field(START),
        }
    }
}

/// Writes the metrics of the process.
pub(crate) fn write(text: &mut Text) {
    let process = Process::read();
    put(text, PROCESS_CPU, process.cpu_seconds);
    put(text, PROCESS_RESIDENT, process.resident_bytes);
    put(text, PROCESS_VIRTUAL, process.virtual_bytes);
    put(text, PROCESS_FDS, process.open_fds);
    put(text, PROCESS_MAX_FDS, most_descriptors());
    put(text, PROCESS_THREADS, process.threads);
    put(text, PROCESS_START, boot_time().zip(process.started).map(|(boot, start)| boot as f64 + seconds(start)));
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / clock_ticks_per_second() as f64
}

fn put<V: Into<Value>>(text: &mut Text, metric: &'static Metric, value: Option<V>) {
    let mut series = text.series(metric);
    value.into_iter().for_each(|value| series.put(&[], value));
}

/// Without the one that reads the directory.
fn open_descriptors() -> Option<u64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    Some(count.saturating_sub(1))
}

fn most_descriptors() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// In seconds since 1970.
fn boot_time() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn linux_tells_all_of_it() {
        let mut text = Text::default();
        write(&mut text);
        let text = text.finish();
        let value = |metric: &Metric| {
            let line = text.lines().find_map(|line| line.strip_prefix(metric.name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {}", metric.name)).parse::<f64>().expect("a number")
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
        assert!((now - 3_600.0..=now + 1.0).contains(&value(PROCESS_START)));
        assert!(value(PROCESS_RESIDENT) > 1e6 && value(PROCESS_VIRTUAL) > value(PROCESS_RESIDENT));
        assert!(value(PROCESS_FDS) >= 3.0 && value(PROCESS_MAX_FDS) > value(PROCESS_FDS));
        assert!(value(PROCESS_THREADS) >= 2.0 && value(PROCESS_CPU) >= 0.0);
    }
}
