//! Commands against a server that is broken or hostile, and against texts that a tenant of a good one has written.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Output;

use crate::support::{Server, eventodb};

/// Sets a terminal's title, clears it, makes it red, and begins a line that looks like another.
const STEERS: &str = "\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m\u{7f}\r\nmessages:      0";

/// Answers each request, given its head, by `answer`. It goes on until the tests end.
pub(crate) fn answering(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.expect("a connection"));
            let (mut head, mut length) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                let begin = head.len();
                if !stream.read_line(&mut head).is_ok_and(|read| read > 0) {
                    break;
                }
                let line = head[begin..].to_ascii_lowercase();
                length =
                    line.strip_prefix("content-length:").map_or(length, |text| text.trim().parse().expect("a number"));
            }
            // What is not read would reset the connection, and the answer with it.
            let _ = stream.read_exact(&mut vec![0; length]);
            let (is_chunked, mut line) = (head.contains("transfer-encoding: chunked"), String::new());
            while is_chunked && line != "0\r\n" {
                line.clear();
                if !stream.read_line(&mut line).is_ok_and(|read| read > 0) {
                    break;
                }
            }
            answer(&head, stream.get_mut());
        }
    });
    url
}

/// Sends a whole reply.
pub(crate) fn reply(stream: &mut TcpStream, status: u16, body: &str) {
    let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}", body.len());
    // A command that was killed takes no answer.
    let _ = write!(stream, "{head}\r\n\r\n{body}");
}

/// Answers every call with this, and probes well.
fn calls_get(status: u16, body: String) -> String {
    answering(move |head, stream| match head.starts_with("POST") {
        true => reply(stream, status, &body),
        false => reply(stream, 200, "{}"),
    })
}

fn run(arguments: &[&str], url: &str) -> Output {
    eventodb(arguments).env("EVENTODB_URL", url).output().expect("ran")
}

/// The lines of what was printed. Nothing in them steers a terminal.
fn lines(printed: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(printed).expect("UTF-8");
    let lines: Vec<String> = text.split_terminator('\n').map(str::to_owned).collect();
    assert!(!lines.iter().any(|line| line.contains(char::is_control)), "{lines:?}");
    lines
}

#[test]
fn a_description_does_not_steer_the_terminal_nor_make_lines() {
    let server = Server::start();
    let description = format!("nice{STEERS}");
    lines(server.prints(&["ns", "create", "shop", "--description", &description]).as_bytes());
    let shown = lines(server.prints(&["ns", "info", "shop"]).as_bytes());
    assert_eq!(shown.len(), 9, "{shown:?}");
    assert!(shown[1].starts_with("description:   nice\u{fffd}]0;title"), "{shown:?}");
    lines(server.prints(&["ns", "list"]).as_bytes());
    // A program gets the description as it is.
    assert_eq!(server.json(&["ns", "info", "shop", "--json"])["description"], description);
}

#[test]
fn an_error_of_a_server_does_not_steer_the_terminal() {
    let error = serde_json::json!({ "error": { "code": "INVALID_REQUEST", "message": format!("bad{STEERS}") } });
    let url = calls_get(400, error.to_string());
    for (arguments, exit) in [
        (&["ns", "info", "a"][..], 1),
        (&["read", "a-1"], 1),
        (&["token", "list", "--url", &url], 1),
        // It answers no reads.
        (&["status"], 69),
    ] {
        let output = run(arguments, &url);
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}");
        let told = [lines(&output.stderr), lines(&output.stdout)].concat();
        let told: Vec<_> = told.iter().filter(|line| line.contains("messages:      0")).collect();
        assert_eq!(told.len(), 1, "{arguments:?}");
        assert!(told[0].contains("bad\u{fffd}]0;title\u{fffd}\u{fffd}[2J"), "{told:?}");
    }
}

#[test]
fn the_error_page_of_a_proxy_is_one_line() {
    let url = answering(|_, stream| reply(stream, 502, "<html>\r\n<title>\u{1b}[31mevil\u{1b}[2J</title>\r\n"));
    let output = run(&["ns", "info", "a"], &url);
    assert_eq!(output.status.code(), Some(69));
    let told = lines(&output.stderr);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("status 502: <html> <title>\u{fffd}[31mevil\u{fffd}[2J</title>"), "{told:?}");
}

#[test]
fn what_a_server_says_it_made_does_not_steer_the_terminal() {
    let made = serde_json::json!({
        "token": STEERS, "id": STEERS, "namespace": STEERS, "description": STEERS, "rights": ["read"],
        "categories": null, "createdAt": "2024-01-01T00:00:00Z", "expiresAt": null,
    });
    let url = calls_get(200, made.to_string());
    for (arguments, count) in
        [(&["token", "create", "--rights", "read", "--url", &url][..], 1), (&["ns", "create", "shop"], 2)]
    {
        let output = run(arguments, &url);
        assert!(output.status.success(), "{arguments:?}: {:?}", lines(&output.stderr));
        assert_eq!(lines(&output.stdout).len(), count, "{arguments:?}");
    }
}

#[test]
fn what_an_import_tells_does_not_steer_the_terminal() {
    let told = serde_json::json!({ "error": "INVALID_JSON", "message": format!("bad{STEERS}"), "line": 1 });
    let url = calls_get(200, format!("data: {told}\n\n"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("records");
    std::fs::write(&file, "{\"id\":\"00000000-0000-0000-0000-000000000001\",\"gpos\":1}\n").expect("written");
    let output = run(&["import", "--input", file.to_str().expect("UTF-8")], &url);
    assert_eq!(output.status.code(), Some(1));
    let told = lines(&output.stderr);
    assert!(told.len() == 1 && told[0].starts_with("INVALID_JSON at line 1: bad\u{fffd}]0;title"), "{told:?}");
}

/// Sends a body that does not end.
fn pour(stream: &mut TcpStream, status: u16) {
    let piece = [format!("{:x}\r\n", 1 << 20).into_bytes(), vec![b' '; 1 << 20], b"\r\n".to_vec()].concat();
    let _ = write!(stream, "HTTP/1.1 {status} X\r\ntransfer-encoding: chunked\r\n\r\n");
    while stream.write_all(&piece).is_ok() {}
}

#[test]
fn a_reply_that_does_not_end_is_not_read_for_ever() {
    for (status, words) in [(200, "the reply is larger than 67108864 bytes"), (400, "status 400")] {
        let url = answering(move |head, stream| match head.starts_with("POST") {
            true => pour(stream, status),
            false => reply(stream, 200, "{}"),
        });
        let output = run(&["ns", "info", "a"], &url);
        assert_eq!(output.status.code(), Some(1));
        let told = lines(&output.stderr);
        assert!(told.len() == 1 && told[0].contains(words), "{told:?}");
    }
}
