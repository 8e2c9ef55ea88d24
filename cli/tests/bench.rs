//! `eventodb bench` from outside: it measures the in-memory server, and compares its own reports.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

fn eventodb(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_eventodb")).arg("bench").args(arguments).output().unwrap()
}

fn smoke(directory: &Path, file: &Path, more: &[&str]) -> Output {
    let (directory, file) = (directory.to_str().unwrap(), file.to_str().unwrap());
    let size = ["--backend", "memory", "--count", "50", "--connections", "2", "--rounds", "1", "--preload", "500"];
    let scenarios = ["sys-version", "write", "append", "stream-get", "category-get", "catch-up", "catch-up-sse"];
    eventodb(&[&scenarios[..], &size, &["--data-dir", directory, "--json", file], more].concat())
}

#[test]
fn every_scenario_gives_a_row_without_errors() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.json");
    let output = smoke(directory.path(), &file, &["--threshold", "write.ops>0"]);
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 7, "{report}");
    for row in rows {
        assert_eq!(row["errors"], 0, "{row}");
        assert!(row["skipped"].is_null(), "{row}");
        assert!(row["figures"]["messages"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["figures"]["p50"].as_f64().unwrap() > 0.0, "{row}");
    }
    let file = file.to_str().unwrap();
    assert!(eventodb(&["compare", file, file]).status.success());
}

#[test]
fn the_server_of_another_program_is_measured() {
    let directory = tempfile::tempdir().unwrap();
    let (program, started) = (directory.path().join("earlier"), directory.path().join("started"));
    let script =
        format!("#!/bin/sh\necho \"$1\" >>{}\nexec {} \"$@\"\n", started.display(), env!("CARGO_BIN_EXE_eventodb"));
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let file = directory.path().join("report.json");
    let output = smoke(directory.path(), &file, &["--server-program", program.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let started = std::fs::read_to_string(&started).unwrap();
    assert!(started.lines().count() > 0 && started.lines().all(|command| command == "serve"), "{started}");

    let missing = directory.path().join("missing");
    let output = smoke(directory.path(), &file, &["--server-program", missing.to_str().unwrap()]);
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains(&format!("cannot start {}", missing.display())), "{told}");
}

#[test]
fn a_missed_threshold_is_exit_code_1() {
    let directory = tempfile::tempdir().unwrap();
    let output = smoke(directory.path(), &directory.path().join("report.json"), &["--threshold", "write.ops<1"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("missed: write.ops<1"));
}

#[test]
fn reports_stand_beside_each_other_in_a_page_and_in_a_document() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (json, page, both, document) = (path("one.json"), path("one.html"), path("both.html"), path("SPEED.md"));
    assert!(smoke(directory.path(), Path::new(&json), &["--html", &page]).status.success());
    assert!(std::fs::read_to_string(&page).unwrap().contains("<svg"));
    std::fs::write(&document, "# Speed\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nMore.\n").unwrap();
    let output = eventodb(&["report", &json, &json, "--html", &both, "--markdown", &document]);
    assert!(output.status.success(), "{output:?}");
    let filled = std::fs::read_to_string(&document).unwrap();
    assert!(filled.contains("| write@2 |") && !filled.contains("old"), "{filled}");
    assert!(filled.starts_with("# Speed\n") && filled.ends_with("<!-- bench:end -->\nMore.\n"), "{filled}");
    assert!(std::fs::read_to_string(&both).unwrap().contains("memory 2"));
    let shown = eventodb(&["report", &json]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("write@2"), "{shown:?}");
}

#[test]
fn what_took_minutes_is_shown_by_a_document_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (json, document, pictures) = (path("one.json"), path("SPEED.md"), path("speed"));
    let second = r#"{"requests":9,"max_ms":12.5}"#;
    let seconds = vec![second; 600].join(",");
    let round = format!(r#"{{"elapsed_s":600,"seconds":[{seconds}],"fsync_seconds":[{seconds}]}}"#);
    let row = format!(r#"{{"name":"stalls@64","figures":{{"ops":9}},"rounds":[{round}]}}"#);
    std::fs::write(&json, format!(r#"{{"environment":{{"backend":"sqlite"}},"rows":[{row}]}}"#)).unwrap();
    std::fs::write(&document, "<!-- bench:begin -->\n<!-- bench:end -->\n").unwrap();
    let output = eventodb(&["report", &json, "--markdown", &document, "--pictures", &pictures]);
    assert!(output.status.success(), "{output:?}");
    let filled = std::fs::read_to_string(&document).unwrap();
    assert!(filled.contains("](speed/stalls-slowest-sqlite.svg)"), "{filled}");
    let picture = std::fs::read_to_string(directory.path().join("speed/stalls-slowest-sqlite.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("sqlite: fsync"), "{picture}");
}

#[test]
fn a_document_without_marks_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (json, document) = (path("one.json"), path("SPEED.md"));
    std::fs::write(&json, "{}").unwrap();
    std::fs::write(&document, "# Speed\n").unwrap();
    let output = eventodb(&["report", &json, "--markdown", &document]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("<!-- bench:begin -->"), "{output:?}");
    assert_eq!(std::fs::read_to_string(&document).unwrap(), "# Speed\n");
}

#[test]
fn a_file_that_cannot_be_written_is_found_out_before_anything_is_measured() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("nowhere/report.json");
    let output = smoke(directory.path(), &nowhere, &[]);
    assert_eq!(output.status.code(), Some(74), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

/// A report of one row with this many answered requests per second.
fn report(file: &Path, ops: f64) -> String {
    let text = format!(r#"{{"rows":[{{"name":"write@64","figures":{{"ops":{ops}}}}}]}}"#);
    std::fs::write(file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_slow_down_of_30_percent_is_exit_code_1_and_one_of_10_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (old, slow, new) = (report(&path("old"), 1_000.0), report(&path("slow"), 700.0), report(&path("new"), 900.0));
    let output = eventodb(&["compare", &old, &slow, "--tolerance", "20%"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("(-30.0%)"), "{output:?}");
    assert!(eventodb(&["compare", &old, &new, "--tolerance", "20%"]).status.success());
    let output = eventodb(&["compare", &old, &slow, "--tolerance", "20%", "--json"]);
    let figures = serde_json::json!([{ "name": "ops/s", "was": 1000.0, "is": 700.0 }]);
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap(),
        serde_json::json!({
            "regressions": 1,
            "rows": [{ "name": "write@64", "figures": figures, "isRegression": true }],
        })
    );
    assert_eq!(output.status.code(), Some(1));
    std::fs::write(&old, "{}").unwrap();
    let output = eventodb(&["compare", &old, &new]);
    assert_eq!(output.status.code(), Some(1), "nothing compared is nothing passed: {output:?}");
}

/// The rows of a report by their names.
fn rows(file: &Path) -> Vec<(String, serde_json::Value)> {
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap().iter();
    rows.map(|row| (row["name"].as_str().unwrap().to_owned(), row.clone())).collect()
}

#[test]
fn connections_follow_the_stages_of_a_ramp() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.json");
    let (place, json) = (directory.path().to_str().unwrap(), file.to_str().unwrap());
    let load = ["sys-version", "--ramp", "0.2s:4,0.2s:1", "--rounds", "1", "--backend", "memory"];
    let output = eventodb(&[&load[..], &["--data-dir", place, "--json", json]].concat());
    assert!(output.status.success(), "{output:?}");
    let rows = rows(&file);
    assert_eq!(rows[0].0, "sys-version@4");
    let elapsed = rows[0].1["rounds"][0]["elapsed_s"].as_f64().unwrap();
    // The measured times are not checked, only that each stage reports one.
    assert!((0.1..60.0).contains(&elapsed), "{elapsed}");
}

#[test]
fn a_row_carries_what_it_was_held_against_and_what_came_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.json");
    let (place, json) = (directory.path().to_str().unwrap(), file.to_str().unwrap());
    let load = ["write", "idle-server", "--connections", "1", "--rounds", "2", "--backend", "sqlite"];
    let small = ["--preload", "300", "--duration", "0.1", "--warm-up", "0", "--least", "0"];
    let output = eventodb(&[&load[..], &small, &["--data-dir", place, "--json", json]].concat());
    assert!(output.status.success(), "{output:?}");
    let rows = rows(&file);
    let write = &rows[0].1;
    let beside: Vec<&String> = write["beside"].as_object().unwrap().keys().collect();
    assert_eq!(beside, ["noop@1", "sqlite-raw/1"]);
    let verdict = &write["verdicts"][0];
    assert_eq!((verdict["figure"].as_str(), verdict["is_upper"].as_bool()), (Some("p50"), Some(true)));
    assert_eq!(verdict["is_full"], false, "a short run in a debug build proves nothing");
    assert_eq!(verdict["holds"].as_bool(), Some(verdict["value"].as_f64() <= verdict["limit"].as_f64()));
    assert!(rows[1].1["readings"]["resident_mib"].as_f64().unwrap() > 1.0);
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 1, "only the report stays in the data directory");
}

#[test]
fn a_server_in_another_process_is_measured() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.json");
    let mut server = Command::new(env!("CARGO_BIN_EXE_eventodb"))
        .args(["serve", "--port", "0", "--test-mode"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map_while(Result::ok);
    let url = lines.find_map(|line| line.find("http://").map(|at| line[at..].trim().to_owned())).unwrap();
    let (place, json) = (directory.path().to_str().unwrap(), file.to_str().unwrap());
    let load = ["write", "category-get", "write-million", "idle", "--url", &url, "--connections", "2", "--rounds", "1"];
    let small = ["--preload", "300", "--count", "20", "--many-streams", "100"];
    let output = eventodb(&[&load[..], &small, &["--data-dir", place, "--json", json]].concat());
    let namespaces = Command::new(env!("CARGO_BIN_EXE_eventodb")).args(["ns", "list", "--url", &url]).output().unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(output.status.success(), "{output:?}");
    let namespaces = String::from_utf8_lossy(&namespaces.stdout);
    assert!(!namespaces.contains("bench-"), "what was made is removed: {namespaces}");
    let default = namespaces.lines().find(|line| line.starts_with("default")).unwrap();
    assert_eq!(
        default.split_whitespace().nth(1),
        Some("0"),
        "nothing is written into the namespace of others: {namespaces}"
    );
    let rows = rows(&file);
    let skipped: Vec<bool> = rows.iter().map(|(_, row)| row["skipped"].is_string()).collect();
    assert_eq!(skipped, [false, false, false, true], "only what looks into the server's process is left out");
}

#[test]
fn a_server_that_makes_no_namespace_for_the_bench_is_not_written_to_unasked() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().to_str().unwrap();
    let mut server = Command::new(env!("CARGO_BIN_EXE_eventodb"))
        .args(["serve", "--port", "0", "--data-dir", &format!("{place}/data")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map_while(Result::ok);
    let url = lines.find_map(|line| line.find("http://").map(|at| line[at..].trim().to_owned())).unwrap();
    let ns = |token: &str, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eventodb"));
        let output =
            command.arg("ns").args(arguments).args(["--json", "--url", &url, "--token", token]).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let administrator = std::fs::read_to_string(format!("{place}/data/admin-token")).unwrap();
    let created = ns(administrator.trim(), &["create", "tenant"]);
    let token = created["token"].as_str().unwrap();
    let small = ["write", "--connections", "2", "--rounds", "1", "--preload", "300", "--count", "20"];
    let measure =
        |more: &[&str]| eventodb(&[&small[..], &["--data-dir", place, "--url", &url, "--token", token], more].concat());
    let refused = measure(&[]);
    let before = ns(token, &["info", "tenant"]);
    let agreed = measure(&["--yes"]);
    let after = ns(token, &["info", "tenant"]);
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--yes"), "{refused:?}");
    assert_eq!(before["messageCount"], 0);
    assert!(agreed.status.success(), "{agreed:?}");
    assert!(after["messageCount"].as_u64().unwrap() >= 20, "{after}");
}

/// A run of minutes in `directory`.
fn begin(directory: &Path, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_eventodb"))
        .arg("bench")
        .args(arguments)
        .args(["--duration", "600", "--backend", "sqlite", "--data-dir", directory.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until the run has come this far, which the files of its servers show.
fn wait_until(what: &str, mut is_so_far: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so_far() {
        assert!(begin.elapsed() < Duration::from_secs(60), "the run does not come to {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Files of a run with this end of their names, and their sizes.
fn files(directory: &Path, end: &str) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        match entry.metadata() {
            Ok(file) if file.is_dir() => found.extend(files(&entry.path(), end)),
            Ok(file) if entry.file_name().to_string_lossy().ends_with(end) => found.push(file.len()),
            _ => {}
        }
    }
    found
}

/// Ctrl-C, as a terminal sends it.
fn interrupt(bench: &Child) {
    kill_process(Pid::from_raw(bench.id().try_into().unwrap()).unwrap(), Signal::INT).unwrap();
}

#[test]
fn a_run_interrupted_in_its_first_round_has_the_figures_until_then() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (json, page) = (path("report.json"), path("report.html"));
    let files_of = ["--json", &json, "--html", &page];
    // With a rate no ceiling is measured before, and without a warm-up the first answer counts.
    let load = ["write", "append", "--connections", "2", "--rate", "500", "--warm-up", "0", "--preload", "1"];
    let bench = begin(directory.path(), &[&load[..], &files_of].concat());
    wait_until("writing", || files(directory.path(), ".log.db-wal").iter().any(|&size| size > 400_000));
    interrupt(&bench);
    let output = bench.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("s of round 1 measured: the figures until then"), "{output:?}");
    let row = rows(Path::new(&json)).remove(0).1;
    assert_eq!((row["is_interrupted"].as_bool(), row["errors"].as_u64()), (Some(true), Some(0)), "{row}");
    assert!(row["figures"]["ops"].as_f64().unwrap() > 0.0, "{row}");
    assert!(std::fs::read_to_string(&page).unwrap().contains("of round 1 measured"), "the page says so, too");
}

#[test]
fn a_run_interrupted_while_messages_are_put_in_place_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let bench = begin(directory.path(), &["write", "append", "--preload", "100000000"]);
    wait_until("its preload", || files(directory.path(), ".log.db-wal").iter().any(|&size| size > 400_000));
    interrupt(&bench);
    let output = bench.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("broken off while messages were put in place: "), "{output:?}");
    assert!(printed.contains(" of 100000000\nbroken off before anything was measured\n"), "{output:?}");
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 0, "nothing stays behind");
}

#[test]
fn a_second_interrupt_ends_a_run_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let load = ["write", "--connections", "2", "--rate", "500", "--warm-up", "0", "--preload", "1"];
    let mut bench = begin(directory.path(), &load);
    wait_until("writing", || files(directory.path(), ".log.db-wal").iter().any(|&size| size > 400_000));
    // The servers answer no more, so that a run that waited for them would never end.
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", bench.id())).unwrap();
    for pid in children.split_ascii_whitespace() {
        kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), Signal::STOP).unwrap();
    }
    // The system merges two signals that arrive at the same time.
    wait_until("its end", || {
        let has_ended = bench.try_wait().unwrap().is_some();
        if !has_ended {
            interrupt(&bench);
        }
        has_ended
    });
    let output = bench.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("ended at once"), "{output:?}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing stays behind");
}

#[test]
fn a_run_that_resumes_measures_what_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.json");
    let (place, json) = (directory.path().to_str().unwrap(), file.to_str().unwrap());
    let size = ["--backend", "memory", "--count", "20", "--connections", "1", "--rounds", "1", "--preload", "50"];
    let run = |scenarios: &[&str], more: &[&str]| {
        let output = eventodb(&[scenarios, &size, &["--data-dir", place, "--json", json, "--resume"], more].concat());
        assert!(output.status.success(), "{output:?}");
        rows(&file)
    };
    let first = run(&["write"], &[]);
    let both = run(&["sys-version", "write"], &[]);
    assert_eq!(both.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["sys-version@1", "write@1"]);
    assert_eq!(both[1].1, first[0].1, "what was there is not measured again");
    let other = run(&["write"], &["--seed", "2"]);
    assert_eq!(other.len(), 1, "of another setting nothing is kept");
    assert_ne!(other[0].1, first[0].1);
}

#[test]
fn a_plan_says_what_is_measured_and_measures_nothing() {
    let output = eventodb(&["write", "stalls", "--preload", "2000000", "--plan"]);
    assert!(output.status.success(), "{output:?}");
    let plan = String::from_utf8_lossy(&output.stdout);
    for part in ["write@64", "each after noop@1, sqlite-raw/1", "2000000 messages put in place: the log", "in all"] {
        assert!(plan.contains(part), "{part}: {plan}");
    }
}
