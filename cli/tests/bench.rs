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
