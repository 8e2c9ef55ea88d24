//! The lines that a test reports, and its seed.

/// Prints a line of a test's report.
#[expect(clippy::print_stderr, reason = "a test's report goes where test output goes")]
pub fn tell(line: &str) {
    eprintln!("{line}");
}

/// The seed of a randomised test: taken from `EVENTODB_TEST_SEED` if that is set, and printed.
pub fn seed() -> u64 {
    let given = std::env::var("EVENTODB_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(rand::random);
    tell(&format!("EVENTODB_TEST_SEED={seed}"));
    seed
}
