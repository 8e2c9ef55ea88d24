//! `eventodb bench` from outside: it measures the in-memory server, and compares its own reports.

use std::path::Path;
use std::process::{Command, Output};

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
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

/// A report of one row of which so many requests a second were answered.
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
}
