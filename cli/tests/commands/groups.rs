//! Commands about consumer groups that the server keeps, and `eventodb consume GROUP`.

use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::{Server, eventodb, started};

const CAUGHT_UP: [&str; 3] = ["consume", "g", "--until-caught-up"];

impl Server {
    /// The exit code of a command, and what it told on standard error.
    fn refuses(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.run(arguments, "");
        (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
    }

    /// The group `g` over `c`, with three messages of `c-1`.
    pub(crate) fn with_group() -> Self {
        let server = Self::start();
        for kind in ["A", "B", "C"] {
            server.prints(&["write", "c-1", kind]);
        }
        server.prints(&["group", "create", "g", "--category", "c", "--partitions", "1"]);
        server
    }

    pub(crate) fn checkpoint(&self) -> Value {
        self.json(&["group", "status", "g", "--json"])["partitions"][0]["checkpoint"].clone()
    }

    /// How many messages a consumer handles until nothing is left.
    fn handles(&self) -> usize {
        self.prints(&[&CAUGHT_UP[..], &["--", "cat"]].concat()).lines().count()
    }

    fn parked(&self) -> Vec<Value> {
        serde_json::from_value(self.json(&["group", "parked", "g", "--json"])).expect("a list")
    }
}

#[test]
fn a_group_is_created_shown_steered_and_deleted() {
    let server = Server::with_group();
    let list = server.json(&["group", "list", "--json"]);
    assert_eq!((&list[0]["group"], &list[0]["partitionCount"]), (&"g".into(), &1.into()));
    assert!(server.prints(&["group", "list"]).contains("GROUP  CATEGORIES"));
    let again = server.prints(&["group", "create", "g", "--category", "c", "--partitions", "4"]);
    assert!(again.starts_with("g was there already, and is left as it is: c, 1 partitions"), "{again}");
    let (code, error) = server.refuses(&["group", "create", "g", "--category", "c", "--adopt", "1,2"]);
    assert!(code == Some(1) && error.contains("g exists and adopts nothing"), "{error}");
    assert!(server.prints(&["group", "create", "new", "--adopt", "1,2"]).starts_with("new is created: all messages"));
    server.prints(&["group", "delete", "new", "--yes"]);
    assert_eq!(server.refuses(&["group", "create", "g", "--category", "d"]).0, Some(1), "it reads something else");

    let changed = server.prints(&["group", "update", "g", "--description", "mail", "--session-ms", "60000"]);
    assert!(changed.starts_with("g is changed: c, 1 partitions"), "{changed}");
    let changed = server.json(&["group", "update", "g", "--max-parked", "7", "--json"]);
    assert_eq!(
        (&changed["description"], &changed["sessionMs"], &changed["maxParked"]),
        (&"mail".into(), &60_000.into(), &7.into())
    );
    assert_eq!(server.refuses(&["group", "update", "g"]).0, Some(64), "nothing would be changed");
    assert_eq!(server.refuses(&["group", "update", "none", "--max-parked", "7"]).0, Some(1));

    let status = server.prints(&["group", "status", "g"]);
    assert!(status.contains("g: c, 0 members, head 3, 3 messages behind"), "{status}");
    assert!(status.contains("no member: start a consumer"), "{status}");
    server.prints(&["group", "pause", "g"]);
    let status = server.prints(&["group", "status", "g"]);
    assert!(status.contains("PAUSED") && status.contains("eventodb group resume"), "{status}");
    server.prints(&["group", "resume", "g"]);
    assert!(server.prints(&["group", "resize", "g", "3"]).contains("g is resized: c, 3 partitions"));
    let audit = server.json(&["group", "audit", "g", "--json"]);
    let acts: Vec<_> = audit.as_array().expect("a list").iter().map(|entry| entry["act"].clone()).collect();
    assert_eq!(acts, ["resize", "resume", "pause"]);
    assert!(server.prints(&["group", "audit", "g"]).lines().next().expect("a head").starts_with("TIME"));

    let (code, told) = server.refuses(&["group", "delete", "g"]);
    assert_eq!((code, told.contains("say --yes")), (Some(64), true), "{told}");
    server.prints(&["group", "delete", "g", "--yes"]);
    assert_eq!(server.json(&["group", "list", "--json"]), Value::Array(Vec::new()));
    assert_eq!(server.refuses(&["group", "status", "g"]).0, Some(1));
}

#[test]
fn a_reset_without_yes_changes_nothing() {
    let server = Server::with_group();
    assert_eq!((server.handles(), server.checkpoint()), (3, 3.into()));
    let reset = ["group", "reset", "g", "--to", "beginning"];
    let told = server.prints(&reset);
    assert!(told.contains("3 again") && told.contains("say --yes to do it"), "{told}");
    assert_eq!((server.checkpoint(), server.handles()), (3.into(), 0));
    server.prints(&[&reset[..], &["--yes"]].concat());
    assert_eq!((server.checkpoint(), server.handles()), (0.into(), 3));
    let (code, told) = server.refuses(&["group", "reset", "g", "--to", "tomorrow"]);
    assert_eq!((code, told.lines().count()), (Some(64), 1), "{told}");
}

#[test]
fn what_is_parked_is_shown_tried_again_and_skipped() {
    let server = Server::with_group();
    server.prints(&["write", "c-2", "D"]);
    let park = ["--on-error", "park", "--retry-seconds", "0", "--", "grep", "-v", "c-1"];
    let output = server.run(&[&CAUGHT_UP[..], &park].concat(), "");
    assert!(output.status.success() && String::from_utf8_lossy(&output.stderr).contains("PARKED"), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1, "the other stream is handled");
    let parked = server.parked();
    assert_eq!((&parked[0]["stream"], &parked[0]["position"], parked.len()), (&"c-1".into(), &1.into(), 1));
    assert!(server.prints(&["group", "parked", "g"]).contains("grep ended with exit status: 1"));

    let skip = ["group", "skip", "g", "c-1", "--to", "1"];
    assert_eq!(server.prints(&skip), "1 messages would be skipped; say --yes to do it\n");
    assert_eq!(server.parked()[0]["position"], 1);
    assert_eq!(server.prints(&[&skip[..], &["--yes"]].concat()), "1 messages are skipped\n");
    assert_eq!(server.parked()[0]["position"], 2);
    assert_eq!(server.prints(&["group", "retry", "g", "c-1"]), "1 streams are due\n");
    assert_eq!(server.prints(&["group", "retry", "g", "--all"]), "1 streams are due\n");
    assert_eq!((server.handles(), server.parked().len()), (2, 0), "the rest is handled, and the stream flows");

    assert!(server.prints(&["group", "wait", "g"]).contains("everything up to 4 is handled"));
    let (code, told) = server.refuses(&["group", "wait", "g", "5", "--timeout", "0"]);
    assert_eq!((code, told.lines().count()), (Some(75), 1), "{told}");
}

#[test]
fn consume_says_what_it_needs() {
    let server = Server::start();
    server.prints(&["write", "c-1", "A"]);
    let consume = |more: &[&str]| server.refuses(&[&CAUGHT_UP[..], more, &["--", "true"]].concat());
    let (code, told) = consume(&[]);
    assert_eq!((code, told.as_str()), (Some(1), "eventodb: there is no group g; --create makes it\n"));
    for wants_create in [["--start", "end"], ["--partitions", "4"]] {
        let (code, told) = consume(&wants_create);
        assert_eq!((code, told.lines().count()), (Some(64), 1), "{told}");
        assert!(told.contains("they need --create"), "{told}");
    }
    let (code, told) = consume(&["--create", "--category", "c"]);
    assert_eq!((code, told.as_str()), (Some(0), "eventodb: group g created: c, from the beginning, 1 messages wait\n"));
    let (code, told) = consume(&["--category", "d"]);
    assert_eq!((code, told.contains("group g reads c")), (Some(64), true), "{told}");
    server.prints(&["group", "pause", "g"]);
    let (code, told) = consume(&[]);
    assert_eq!((code, told.as_str()), (Some(75), "eventodb: the group g is paused\n"));
}

/// The right `consume` is all that a consumer needs.
#[test]
fn a_consumer_needs_no_right_to_read() {
    const ADMINISTRATOR: &str = "ns_ZGVmYXVsdA_1111111111111111111111111111111111111111111111111111111111111111";
    let mut command = eventodb(&["serve", "--db-url", "sqlite://:memory:", "--port", "0", "--token", ADMINISTRATOR]);
    command.stderr(Stdio::null());
    let (_running, url) = started(command);
    let run = |token: &str, arguments: &[&str]| {
        let Output { status, stdout, stderr } =
            eventodb(arguments).env("EVENTODB_URL", &url).env("EVENTODB_TOKEN", token).output().expect("ran");
        let told = String::from_utf8(stderr).expect("UTF-8");
        assert!(status.success(), "{arguments:?}: {told}");
        (String::from_utf8(stdout).expect("UTF-8"), told)
    };
    run(ADMINISTRATOR, &["write", "c-1", "A"]);
    let token = run(ADMINISTRATOR, &["token", "create", "--rights", "consume", "--url", &url]).0;
    let token = token.trim();
    let consume = |more: &[&str]| run(token, &[&CAUGHT_UP[..], more, &["--", "cat"]].concat());
    let (printed, told) = consume(&["--create", "--category", "c"]);
    assert_eq!((printed.lines().count(), told.as_str()), (1, "eventodb: group g: c\n"));
    run(ADMINISTRATOR, &["write", "c-1", "B"]);
    assert_eq!(consume(&[]).0.lines().count(), 1);
    let (_, told) = consume(&["--category", "c"]);
    assert!(told.contains("the token has not the right to read"), "{told}");
}
