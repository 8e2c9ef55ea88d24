//! What went wrong in other systems that hand out work to consumers, as one short story each.

use serde_json::{Value, json};

use crate::pair::{Failure, Subject};
use crate::rules::Rules;

const SESSION: i64 = 1000;

/// What is under test, and a clock.
struct Stage {
    subject: Box<dyn Subject>,
    now: i64,
}

impl Stage {
    /// A group `g` of this many partitions over the category `a`.
    fn new(partitions: u32) -> Self {
        let mut stage = Self { subject: Box::<Rules>::default(), now: 1_000_000 };
        let options = json!({ "categories": ["a"], "partitions": partitions, "sessionMs": SESSION, "maxParked": 2 });
        stage.ask("group.create", json!(["g", options]));
        stage
    }

    fn call(&mut self, method: &str, args: Value) -> Result<Value, Failure> {
        self.now += 1;
        self.subject.tick(self.now);
        self.subject.call(self.now, method, args.as_array().expect("arguments"))
    }

    fn ask(&mut self, method: &str, args: Value) -> Value {
        self.call(method, args).unwrap_or_else(|failure| panic!("{method}: {failure:?}"))
    }

    /// The code of a refusal, with its reason.
    fn refused(&mut self, method: &str, args: Value) -> (String, String) {
        let failure = self.call(method, args).expect_err(method);
        (failure.code, failure.details["reason"].as_str().unwrap_or_default().to_owned())
    }

    /// Writes a message to each stream. Returns the last position.
    fn write(&mut self, streams: &[&str]) -> i64 {
        let mut at = 0;
        for stream in streams {
            let written = self.ask("stream.write", json!([stream, { "type": "T", "data": {} }]));
            at = written["globalPosition"].as_i64().expect("a position");
        }
        at
    }

    fn join(&mut self) -> String {
        self.ask("group.join", json!(["g"]))["member"].as_str().expect("a member").to_owned()
    }

    fn read(&mut self, member: &str, options: Value) -> Value {
        self.ask("group.read", json!(["g", member, options]))
    }

    /// The epoch of a partition that the member owns.
    fn epoch(&mut self, member: &str, partition: u32) -> i64 {
        let membership = self.ask("group.heartbeat", json!(["g", member]));
        let lists = ["assigned", "revoking"].into_iter().flat_map(|list| membership[list].as_array().expect("a list"));
        let mut own = lists.filter(|entry| entry["partition"] == json!(partition));
        own.next().expect("it owns it")["epoch"].as_i64().expect("an epoch")
    }

    fn checkpoint(&mut self, member: &str, epoch: i64, position: i64) -> Value {
        let checkpoints = json!({ "0": { "epoch": epoch, "position": position } });
        self.ask("group.heartbeat", json!(["g", member, { "checkpoints": checkpoints }]))
    }

    fn park(&mut self, member: &str, epoch: i64, position: i64, attempt: i64) -> Result<Value, Failure> {
        let options = json!({
            "partition": 0, "epoch": epoch, "position": position, "attempt": attempt, "retryInMs": 0, "reason": "it is bad",
        });
        self.call("group.park", json!(["g", member, options]))
    }

    fn handled(&mut self, member: &str, epoch: i64, retry: &Value, read_to: i64) -> Value {
        let options = json!({
            "partition": 0, "epoch": epoch, "stream": retry[1], "position": retry[4], "readTo": read_to, "rev": retry[10],
        });
        self.ask("group.handled", json!(["g", member, options]))
    }

    /// Time passes, in which the members that are named go on calling.
    fn pass(&mut self, ms: i64, alive: &[&str]) {
        let end = self.now + ms;
        while self.now < end {
            self.now = end.min(self.now + SESSION / 3);
            for member in alive {
                self.ask("group.heartbeat", json!(["g", member]));
            }
        }
    }
}

/// Positions of the messages or retries of a page.
fn positions(page: &Value, list: &str) -> Vec<i64> {
    page[list].as_array().expect("a list").iter().map(|row| row[4].as_i64().expect("a position")).collect()
}

fn partitions(membership: &Value, list: &str) -> Vec<u64> {
    let entries = membership[list].as_array().expect("a list").iter();
    entries.map(|entry| entry["partition"].as_u64().expect("a number")).collect()
}

#[test]
fn the_partitions_of_a_killed_member_move_after_one_session() {
    let mut stage = Stage::new(2);
    stage.write(&["a-1", "a-2"]);
    let (killed, other) = (stage.join(), stage.join());
    stage.pass(3 * SESSION, &[&other]);
    let page = stage.read(&other, json!({}));
    assert_eq!(partitions(&page, "assigned"), [0, 1]);
    assert_eq!(positions(&page, "messages").len(), 2);
    assert_eq!(stage.refused("group.heartbeat", json!(["g", killed])), ("FENCED".to_owned(), "lease".to_owned()));
}

#[test]
fn a_fenced_member_can_come_back() {
    let mut stage = Stage::new(2);
    let instance = "6f9619ff-8b86-d011-b42d-00c04fc964ff";
    stage.ask("group.join", json!(["g", { "instance": instance }]));
    stage.pass(2 * SESSION, &[]);
    let again = json!(["g", { "instance": instance }]);
    assert_eq!(stage.refused("group.join", again).1, "lease", "one membership for one instance");
    let new = json!(["g", { "instance": "01a1fc08-5531-75a2-ad93-a98729fd37f0" }]);
    assert_eq!(partitions(&stage.ask("group.join", new), "assigned"), [0, 1]);
}

#[test]
fn the_checkpoint_of_a_former_owner_is_not_taken() {
    let mut stage = Stage::new(1);
    let at = stage.write(&["a-1", "a-1"]);
    let former = stage.join();
    let epoch = stage.epoch(&former, 0);
    stage.pass(2 * SESSION, &[]);
    let owner = stage.join();
    stage.epoch(&owner, 0);
    let late = json!(["g", owner, { "checkpoints": { "0": { "epoch": epoch, "position": at } } }]);
    assert_eq!(stage.ask("group.heartbeat", late)["fenced"], json!([0]));
    let status = stage.ask("group.status", json!(["g"]));
    assert_eq!(status["partitions"][0]["checkpoint"], json!(0));
}

#[test]
fn the_writes_of_a_zombie_are_not_taken() {
    let mut stage = Stage::new(1);
    let at = stage.write(&["a-1"]);
    let zombie = stage.join();
    let epoch = stage.epoch(&zombie, 0);
    stage.pass(2 * SESSION, &[]);
    stage.join();
    let message = json!([{ "type": "Done", "data": {} }]);
    for form in [
        json!({ "checkpoint": { "group": "g", "partition": 0, "epoch": epoch, "position": at } }),
        json!({ "fence": { "group": "g", "partition": 0, "epoch": epoch } }),
    ] {
        let refused = stage.refused("stream.append", json!(["out", message, form]));
        assert_eq!(refused, ("FENCED".to_owned(), "epoch".to_owned()));
    }
    assert_eq!(stage.write(&["a-1"]), at + 1, "nothing was written");
}

#[test]
fn a_lower_checkpoint_changes_nothing() {
    let mut stage = Stage::new(1);
    stage.write(&["a-1", "a-1", "a-1"]);
    let member = stage.join();
    let epoch = stage.epoch(&member, 0);
    for (given, stored) in [(2, 2), (1, 2), (3, 3)] {
        assert_eq!(stage.checkpoint(&member, epoch, given)["assigned"][0]["checkpoint"], json!(stored));
    }
}

#[test]
fn a_checkpoint_that_is_refused_does_not_end_checkpoints() {
    let mut stage = Stage::new(1);
    let at = stage.write(&["a-1"]);
    let member = stage.join();
    let epoch = stage.epoch(&member, 0);
    let above = json!(["g", member, { "checkpoints": { "0": { "epoch": epoch, "position": at + 1 } } }]);
    assert_eq!(stage.refused("group.heartbeat", above).0, "INVALID_REQUEST");
    assert_eq!(stage.checkpoint(&member, epoch, at)["assigned"][0]["checkpoint"], json!(at));
}

#[test]
fn a_poison_message_stops_its_stream_only() {
    let mut stage = Stage::new(1);
    stage.write(&["a-1", "a-2", "a-1", "a-2"]);
    let member = stage.join();
    let epoch = stage.epoch(&member, 0);
    assert_eq!(positions(&stage.read(&member, json!({})), "messages"), [1, 2, 3, 4]);
    stage.park(&member, epoch, 1, 1).expect("it is parked");
    let page = stage.read(&member, json!({}));
    assert_eq!(positions(&page, "messages"), [2, 4]);
    assert!(positions(&page, "retries").is_empty(), "they lie above the checkpoint");
    stage.checkpoint(&member, epoch, 4);

    let page = stage.read(&member, json!({}));
    assert_eq!(positions(&page, "retries"), [1, 3]);
    let retries = page["retries"].as_array().expect("a list").clone();
    assert_eq!((&retries[0][9], &retries[1][9]), (&json!(2), &json!(1)), "attempts");
    let reply = stage.handled(&member, epoch, &retries[0], 4);
    assert_eq!(reply["flowing"], json!(false), "3 is left");
    let mut second = retries[1].clone();
    second[10] = reply["rev"].clone();
    assert_eq!(stage.handled(&member, epoch, &second, 4)["flowing"], json!(true));
    stage.write(&["a-1"]);
    let after = json!({ "after": { "0": { "epoch": epoch, "position": 4 } } });
    assert_eq!(positions(&stage.read(&member, after), "messages"), [5]);
}

#[test]
fn a_stream_that_was_skipped_past_the_checkpoint_flows_only_once_the_checkpoint_is_there() {
    let mut stage = Stage::new(1);
    stage.write(&["a-1", "a-2", "a-1"]);
    let member = stage.join();
    let epoch = stage.epoch(&member, 0);
    stage.park(&member, epoch, 1, 1).expect("it is parked");
    stage.checkpoint(&member, epoch, 2);
    let retry = stage.read(&member, json!({}))["retries"][0].clone();
    stage.ask("group.skip", json!(["g", { "stream": "a-1", "position": 3 }]));
    let reply = stage.handled(&member, epoch, &retry, 3);
    assert_eq!(reply["flowing"], json!(false), "3 would come again, because the checkpoint is 2");
    stage.checkpoint(&member, epoch, 3);
    let drained = stage.read(&member, json!({}))["drained"][0].clone();
    assert_eq!((&drained["stream"], &drained["position"]), (&json!("a-1"), &json!(3)));
}

#[test]
fn a_reset_releases_exactly_the_parked_streams_that_come_again() {
    for (to, left) in [(1, 0), (2, 1)] {
        let mut stage = Stage::new(1);
        stage.write(&["a-2", "a-1"]);
        let member = stage.join();
        let epoch = stage.epoch(&member, 0);
        stage.park(&member, epoch, 2, 1).expect("it is parked");
        stage.ask("group.reset", json!(["g", { "to": to }]));
        let parked = stage.ask("group.parked", json!(["g"]));
        assert_eq!(parked.as_array().expect("a list").len(), left, "to {to}");
    }
}

#[test]
fn a_retry_is_committed_once() {
    let mut stage = Stage::new(1);
    stage.write(&["a-1", "a-1"]);
    let member = stage.join();
    let epoch = stage.epoch(&member, 0);
    stage.park(&member, epoch, 1, 1).expect("it is parked");
    stage.checkpoint(&member, epoch, 2);
    let form = json!({ "handled": { "group": "g", "partition": 0, "epoch": epoch, "stream": "a-1", "position": 1 } });
    let append = json!(["out", [{ "type": "Done", "data": {} }], form]);
    assert_eq!(stage.ask("stream.append", append.clone())["lastPosition"], json!(0));
    assert_eq!(stage.refused("stream.append", append), ("FENCED".to_owned(), "handled".to_owned()));
    assert_eq!(positions(&stage.read(&member, json!({})), "retries"), [2]);
}

#[test]
fn a_message_that_is_parked_twice_is_parked_once() {
    let mut stage = Stage::new(1);
    stage.write(&["a-1", "a-1"]);
    let member = stage.join();
    let epoch = stage.epoch(&member, 0);
    for _ in 0..2 {
        assert_eq!(stage.park(&member, epoch, 1, 1).expect("it is parked"), json!({ "attempts": 1 }));
    }
    let parked = stage.ask("group.parked", json!(["g"]));
    assert_eq!(parked.as_array().expect("a list").len(), 1);
    assert_eq!((&parked[0]["stream"], &parked[0]["reason"]), (&json!("a-1"), &json!("it is bad")));
}

#[test]
fn no_more_streams_are_parked_than_may_be() {
    let mut stage = Stage::new(1);
    stage.write(&["a-1", "a-2", "a-3"]);
    let member = stage.join();
    let epoch = stage.epoch(&member, 0);
    stage.park(&member, epoch, 1, 1).expect("one");
    stage.park(&member, epoch, 2, 1).expect("two");
    assert_eq!(stage.park(&member, epoch, 3, 1).expect_err("the bound is 2").code, "PARK_FULL");
    stage.park(&member, epoch, 1, 2).expect("it is parked already");
}

#[test]
fn a_newcomer_gets_its_whole_share() {
    let mut stage = Stage::new(16);
    let first = stage.join();
    let newcomer = stage.join();
    let asked = stage.ask("group.heartbeat", json!(["g", first]));
    assert_eq!(asked["revoking"].as_array().expect("a list").len(), 8);
    let mut released = json!({});
    for entry in asked["revoking"].as_array().expect("a list") {
        released[entry["partition"].to_string()] = entry["epoch"].clone();
    }
    stage.ask("group.heartbeat", json!(["g", first, { "released": released }]));
    for member in [&first, &newcomer] {
        assert_eq!(partitions(&stage.ask("group.heartbeat", json!(["g", member])), "assigned").len(), 8);
    }
}

#[test]
fn more_members_than_partitions_stand_by() {
    let mut stage = Stage::new(1);
    let members: Vec<String> = (0..3).map(|_| stage.join()).collect();
    assert!(stage.read(&members[2], json!({}))["assigned"].as_array().expect("a list").is_empty());
    stage.ask("group.leave", json!(["g", members[0]]));
    let owned = |stage: &mut Stage, member: &str| {
        partitions(&stage.ask("group.heartbeat", json!(["g", member])), "assigned").len()
    };
    assert_eq!(owned(&mut stage, &members[1]) + owned(&mut stage, &members[2]), 1);
}

#[test]
fn the_younger_of_two_members_of_one_name_wins() {
    let mut stage = Stage::new(2);
    let older = stage.ask("group.join", json!(["g", { "name": "worker" }]))["member"].clone();
    let younger = stage.ask("group.join", json!(["g", { "name": "worker" }]));
    assert_eq!(partitions(&younger, "assigned"), [0, 1], "at once");
    assert_eq!(stage.refused("group.heartbeat", json!(["g", older])).1, "replaced");
}

#[test]
fn a_resize_neither_skips_nor_doubles() {
    let streams: Vec<String> = (0..20).map(|id| format!("a-{id}")).collect();
    let names: Vec<&str> = streams.iter().map(String::as_str).collect();
    let mut stage = Stage::new(3);
    stage.write(&names);
    let member = stage.join();
    let epoch = stage.epoch(&member, 0);
    let page = stage.read(&member, json!({}));
    let of_first = page["messages"].as_array().expect("a list").iter().filter(|row| row[8] == json!(0));
    let handled: Vec<i64> = of_first.map(|row| row[4].as_i64().expect("a position")).collect();
    assert!(!handled.is_empty());
    stage.checkpoint(&member, epoch, 20);
    stage.ask("group.leave", json!(["g", member]));
    stage.ask("group.resize", json!(["g", { "partitions": 5 }]));
    let member = stage.join();
    let mut left = positions(&stage.read(&member, json!({})), "messages");
    left.extend(&handled);
    left.sort_unstable();
    assert_eq!(left, (1..=20).collect::<Vec<i64>>());
}

#[test]
fn a_wait_ends_when_everything_is_handled_or_parked() {
    let mut stage = Stage::new(1);
    stage.write(&["a-1", "a-2"]);
    let member = stage.join();
    let epoch = stage.epoch(&member, 0);
    let wait = json!(["g", { "globalPosition": 2 }]);
    assert_eq!(stage.ask("group.wait", wait.clone()), json!({ "reached": false, "parked": 0 }));
    stage.park(&member, epoch, 1, 1).expect("it is parked");
    assert_eq!(stage.ask("group.wait", wait.clone()), json!({ "reached": false, "parked": 1 }));
    stage.checkpoint(&member, epoch, 2);
    assert_eq!(stage.ask("group.wait", wait), json!({ "reached": true, "parked": 1 }));
}

#[test]
fn each_reason_why_a_checkpoint_does_not_move_is_told() {
    let why = |stage: &mut Stage| stage.ask("group.status", json!(["g"]))["partitions"][0]["why"]["code"].clone();
    let mut stage = Stage::new(1);
    assert_eq!(why(&mut stage), "caught_up");
    stage.write(&["a-1", "a-1", "a-2", "a-3"]);
    assert_eq!(why(&mut stage), "no_member");
    let member = stage.join();
    assert_eq!(why(&mut stage), "working");
    stage.pass(2 * SESSION, &[&member]);
    assert_eq!(why(&mut stage), "slow_handler");
    stage.pass(SESSION * 7 / 10, &[]);
    assert_eq!(why(&mut stage), "silent_member");
    stage.ask("group.pause", json!(["g"]));
    assert_eq!(why(&mut stage), "paused");
    stage.ask("group.resume", json!(["g"]));
    let epoch = stage.epoch(&member, 0);
    stage.park(&member, epoch, 1, 1).expect("one");
    stage.park(&member, epoch, 3, 1).expect("two");
    assert_eq!(why(&mut stage), "parked_full");
    stage.ask("group.resize", json!(["g", { "partitions": 2 }]));
    assert_eq!(why(&mut stage), "resizing");
}

#[test]
fn a_partition_that_is_asked_back_says_so() {
    let mut stage = Stage::new(2);
    stage.write(&["a-1", "a-2", "a-3", "a-4"]);
    stage.join();
    stage.join();
    let status = stage.ask("group.status", json!(["g"]));
    let codes: Vec<&Value> =
        status["partitions"].as_array().expect("a list").iter().map(|row| &row["why"]["code"]).collect();
    assert!(codes.contains(&&json!("revoking")), "{codes:?}");
}
