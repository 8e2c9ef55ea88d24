//! `eventodb top`.

use crate::support::Server;

#[test]
fn a_sample_for_programs_and_one_for_people() {
    let server = Server::start();
    for _ in 0..5 {
        server.prints(&["write", "c-1", "A"]);
    }
    let sample = server.json(&["top", "--json"]);
    let written =
        sample["queries"]["patterns"].as_array().expect("a list").iter().find(|of| of["method"] == "stream.write");
    assert_eq!(written.map(|of| &of["total"]), Some(&5.into()), "{sample}");
    assert!(sample["performance"]["requests"]["process"]["total"].as_u64() > Some(5), "{sample}");

    let shown = server.prints(&["top"]);
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[0].starts_with("eventodb ") && lines[1].contains(" requests/s "), "{shown}");
    assert!(lines.iter().any(|line| line.starts_with("stream.write ")), "{shown}");
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{shown}");
}
