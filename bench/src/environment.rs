//! The circumstances of a run: backend, machine, sizes. Without them a figure means nothing.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use procfs::{Current as _, LoadAverage};

use crate::args::{Args, Backend};

pub(crate) fn environment(args: &Args) -> BTreeMap<String, String> {
    let durability = match (&args.url, args.backend) {
        (Some(_), _) => "as that server is configured",
        (None, Backend::Sqlite) => "fsync before each answer",
        (None, Backend::Memory) => "none",
        (None, Backend::Postgres) => "the database's synchronous_commit",
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from).to_string();
    let kernel = rustix::system::uname();
    let git = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let commit =
        git.ok().filter(|output| output.status.success()).and_then(|output| String::from_utf8(output.stdout).ok());
    let build = if cfg!(debug_assertions) { "debug: figures mean nothing" } else { "release" };
    let distribution = format!("{:?}", args.distribution).to_lowercase();
    let sizes =
        format!("{} bytes, {} streams, {distribution}, {} categories", args.size, args.streams, args.categories);
    let duration = args.duration.map_or_else(|| "as the scenario has it".to_owned(), |seconds| format!("{seconds} s"));
    let rounds = args.rounds.map_or_else(|| "as the scenario has them".to_owned(), |rounds| rounds.to_string());
    let mut pairs = vec![
        ("backend", args.url.clone().unwrap_or_else(|| args.backend.name())),
        ("durability", durability.to_owned()),
        ("version", eventodb_protocol::VERSION.to_owned()),
        ("commit", commit.map_or_else(|| "unknown".to_owned(), |commit| commit.trim().to_owned())),
        ("build", build.to_owned()),
        ("cores", cores),
        ("kernel", kernel.release().to_string_lossy().into_owned()),
        ("kernel writes back", write_back()),
        ("disk's scheduler", scheduler(args).unwrap_or_else(|| "unknown".to_owned())),
        ("load before", format!("{:.2}", load_average())),
        ("messages", sizes),
        ("preloaded", args.preload.to_string()),
        ("rounds", format!("{rounds}, each {duration} after {} s", args.warm_up)),
        ("seed", args.seed.to_string()),
    ];
    if args.url.is_none() && args.backend == Backend::Postgres {
        pairs.push(("postgres settings", postgres_settings(args)));
    }
    if !args.ramp.is_empty() {
        let stage = |stage: &crate::ramp::Stage| format!("{}s:{}", stage.duration.as_secs_f64(), stage.connections);
        pairs.push(("ramp", args.ramp.iter().map(stage).collect::<Vec<_>>().join(",")));
    }
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn postgres_settings(args: &Args) -> String {
    match (&args.db_url, &args.pg_settings[..]) {
        (Some(_), _) => "as that database has them".to_owned(),
        (None, []) => "its own defaults".to_owned(),
        (None, settings) => {
            settings.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
        }
    }
}

/// The amount of written data from which on the kernel writes it to the disk by itself. Less is written with the next
/// sync, which takes longer then (Linux, `Documentation/admin-guide/sysctl/vm.rst`).
fn write_back() -> String {
    let setting = |name| std::fs::read_to_string(format!("/proc/sys/vm/{name}")).ok();
    let number = |name| setting(name).and_then(|text| text.trim().parse::<u64>().ok());
    match (number("dirty_background_bytes"), number("dirty_background_ratio")) {
        (Some(bytes @ 1..), _) => format!("from {bytes} bytes on"),
        (_, Some(percent)) => format!("from {percent} % of memory on"),
        _ => "unknown".to_owned(),
    }
}

/// The kernel's scheduler for the disk of the data directory (Linux, `Documentation/block/switching-sched.rst`).
fn scheduler(args: &Args) -> Option<String> {
    let directory = args.data_dir.as_deref().unwrap_or(Path::new("."));
    let disk = std::fs::metadata(directory).ok()?.dev();
    let disk = format!("/sys/dev/block/{}:{}", rustix::fs::major(disk), rustix::fs::minor(disk));
    // A partition has its disk's.
    let queues = ["queue/scheduler", "../queue/scheduler"]
        .map(|queue| std::fs::canonicalize(&disk).ok().map(|disk| disk.join(queue)));
    let choice = queues.into_iter().flatten().find_map(|queue| std::fs::read_to_string(queue).ok())?;
    let (_, chosen) = choice.split_once('[')?;
    Some(chosen.split_once(']')?.0.to_owned())
}

/// The processes that wanted a core in the last minute, on average: other work slows the figures.
fn load_average() -> f32 {
    LoadAverage::current().map_or(f32::NAN, |load| load.one)
}
