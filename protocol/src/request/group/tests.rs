//! What the group calls take, and how they name what they refuse.

use crate::group::Epoch;
use crate::request::Call;
use crate::request::group::*;
use crate::{Error, Limits};

const INSTANCE: &str = "6f9619ff-8b86-d011-b42d-00c04fc964ff";

/// Parses the arguments of a method behind the group's and the member's name.
fn parse<T>(method: &str, options: &str, read: impl FnOnce(&mut Call<'_>) -> Result<T, Error>) -> Result<T, Error> {
    read(&mut Call::parse(&format!(r#"["{method}",{options}]"#)).expect("a call"))
}

fn create(options: &str) -> Result<CreateGroup, Error> {
    parse("group.create", options, |call| CreateGroup::parse(call, &Limits::default()))
}

fn read(options: &str) -> Result<ReadGroup, Error> {
    parse("group.read", options, ReadGroup::parse)
}

/// Each is refused with a message that begins like this.
fn refused<T: std::fmt::Debug>(parse: impl Fn(&str) -> Result<T, Error>, cases: &[(&str, &str)]) {
    for (options, message) in cases {
        let error = parse(options).expect_err(options);
        assert!(error.message.starts_with(message), "{options}: {}", error.message);
    }
}

#[test]
fn a_group_has_defaults() {
    let new = create("null").expect("a group");
    assert_eq!((new.partitions, new.session_ms, new.max_parked), (16, 30_000, 1_000));
    assert_eq!((new.start, new.description.as_str()), (Start::After(0), ""));
    assert!(new.categories.is_empty() && new.types.is_empty());
}

#[test]
fn a_group_begins_where_it_is_told() {
    for (start, expected) in [(r#""beginning""#, Start::After(0)), (r#""end""#, Start::End), ("7", Start::After(7))] {
        assert_eq!(create(&format!(r#"{{"start":{start}}}"#)).expect("a group").start, expected);
    }
    let adopted = create(r#"{"adopt":{"size":2,"checkpoints":[3,4]}}"#).expect("a group");
    assert_eq!(adopted.start, Start::Adopt(Adopted(vec![3, 4])));
}

#[test]
fn errors_of_a_new_group_name_the_option() {
    refused(
        create,
        &[
            (r#"{"partitions":0}"#, "partitions must be between 1 and 1024"),
            (r#"{"sessionMs":999}"#, "sessionMs must be between 1000 and 600000"),
            (r#"{"maxParked":-1}"#, "maxParked must be between 0 and 10000"),
            (r#"{"maxParked":10001}"#, "maxParked must be between 0 and 10000"),
            (r#"{"start":"middle"}"#, "start must be"),
            (r#"{"start":-1}"#, "start must be"),
            (r#"{"start":0,"adopt":{"size":1,"checkpoints":[0]}}"#, "start and adopt exclude"),
            (r#"{"adopt":{"checkpoints":[0]}}"#, "adopt.size is required"),
            (r#"{"adopt":{"size":2,"checkpoints":[0]}}"#, "adopt.checkpoints must be an array with one position"),
            (r#"{"adopt":{"size":1,"checkpoints":[-1]}}"#, "adopt.checkpoints[0] must be between"),
            (r#"{"categories":["a",""]}"#, "categories[1] must be a non-empty string"),
            (r#"{"partition":3}"#, r#"options must not have "partition""#),
        ],
    );
}

#[test]
fn a_read_carries_a_heartbeat() {
    let call = read(
        r#"{"batchSize":-1,"partitions":[2,1,2],"after":{"1":{"epoch":5,"position":9}},"checkpoints":{"1":{"epoch":5,"position":8}},"released":{"2":6}}"#,
    )
    .expect("a read");
    assert_eq!((call.batch, call.partitions), (10_000, Some(vec![1, 2])));
    assert_eq!(call.after[&1], Presented { epoch: Epoch::from_number(5), position: 9 });
    assert_eq!(call.heartbeat.checkpoints[&1].position, 8);
    assert_eq!(call.heartbeat.released[&2], Epoch::from_number(6));
    assert_eq!(read("null").expect("a read").batch, 100);
}

#[test]
fn errors_of_a_read_name_the_option() {
    let many = (0..1025).map(|at| format!(r#""{at}":1"#)).collect::<Vec<_>>().join(",");
    refused(
        read,
        &[
            (r#"{"batchSize":-2}"#, "batchSize must be between -1 and 10000"),
            (r#"{"waitMs":-1}"#, "waitMs must be between 0"),
            (r#"{"partitions":[-1]}"#, "partitions must be an array of partitions' numbers"),
            (r#"{"partitions":3}"#, "partitions must be an array of partitions' numbers"),
            (r#"{"after":[]}"#, "after must be an object"),
            (r#"{"after":{"x":{}}}"#, "the members' names in after must be partitions' numbers"),
            (r#"{"after":{"3":{"epoch":1}}}"#, "after.3.position is required"),
            (r#"{"checkpoints":{"3":7}}"#, "checkpoints.3 must be an object"),
            (r#"{"checkpoints":{"3":{"epoch":1,"position":2,"at":3}}}"#, r#"checkpoints.3 must not have "at""#),
            (r#"{"released":{"3":-1}}"#, "released.3 must be between 0"),
            (&format!(r#"{{"released":{{{many}}}}}"#), "released must have at most 1024"),
        ],
    );
}

#[test]
fn a_member_is_known_by_its_instance() {
    let join = |options: &str| parse("group.join", options, |call| Join::parse(call, &Limits::default()));
    let member = join(&format!(r#"{{"name":"worker 1","instance":"{}"}}"#, INSTANCE.to_uppercase())).expect("a join");
    assert_eq!(member.instance.expect("an instance").to_string(), INSTANCE);
    assert_eq!(join("null"), Ok(Join::default()));
    refused(
        join,
        &[(r#"{"instance":"x"}"#, "instance must be a UUID"), (r#"{"name":""}"#, "name must be a non-empty")],
    );
}

#[test]
fn a_reason_is_cut_and_not_refused() {
    let park = |reason: &str| {
        let options = format!(r#"{{"partition":1,"epoch":2,"position":3,"reason":"{reason}"}}"#);
        parse("group.park", &options, Park::parse).expect("a park").reason
    };
    assert_eq!(park(&"ä".repeat(2048)).len(), 4096);
    assert_eq!(park(&format!("x{}", "ä".repeat(2048))).len(), 4095, "no half of a character");
    assert_eq!(park(r"a\u0000b"), "a b");
}

#[test]
fn a_retry_names_one_stream_or_all() {
    let retry = |options: &str| parse("group.retry", options, |call| Retry::parse(call, &Limits::default()));
    assert_eq!(retry(r#"{"stream":"a-1"}"#), Ok(Retry::Stream("a-1".to_owned())));
    assert_eq!(retry(r#"{"all":true}"#), Ok(Retry::All));
    for wrong in ["{}", r#"{"all":false}"#, r#"{"stream":"a-1","all":true}"#] {
        refused(retry, &[(wrong, "either stream or all")]);
    }
}

#[test]
fn a_reset_goes_to_a_position_a_time_or_where_another_group_is() {
    let reset = |to: &str| {
        let options = format!(r#"{{"to":{to}}}"#);
        parse("group.reset", &options, |call| ResetGroup::parse(call, &Limits::default())).map(|reset| reset.to)
    };
    assert_eq!(reset("7"), Ok(ResetTo::Position(7)));
    assert_eq!(reset(r#""beginning""#), Ok(ResetTo::Position(0)));
    assert_eq!(reset(r#""end""#), Ok(ResetTo::End));
    assert_eq!(reset(r#"{"group":"other"}"#), Ok(ResetTo::Group("other".to_owned())));
    assert!(matches!(reset(r#""2030-01-01T00:00:00Z""#), Ok(ResetTo::Time(_))));
    refused(
        reset,
        &[("null", "to is required"), (r#""now""#, "to must be"), ("-1", "to must be"), ("{}", "to.group is")],
    );
}

#[test]
fn a_write_has_one_atomic_form() {
    const KNOWN: &[&str] = &["checkpoint", "handled", "fence"];
    let form = |text: &str| {
        let options = crate::request::Options::parse("options", "", text, KNOWN).expect("options");
        GroupForm::parse(&options, &Limits::default())
    };
    assert_eq!(form("{}"), Ok(None));
    let fence = form(r#"{"fence":{"group":"g","partition":1,"epoch":2}}"#).expect("a form").expect("a fence");
    assert_eq!(fence.form, AtomicForm::Fence { partition: 1, epoch: Epoch::from_number(2) });
    let checkpoint = form(r#"{"checkpoint":{"group":"g","partition":1,"epoch":2,"position":3}}"#);
    assert!(matches!(checkpoint, Ok(Some(GroupForm { form: AtomicForm::Checkpoint { position: 3, .. }, .. }))));
    let handled = form(r#"{"handled":{"group":"g","partition":1,"epoch":2,"stream":"a-1","position":3}}"#);
    assert!(matches!(handled, Ok(Some(GroupForm { form: AtomicForm::Handled(_), .. }))));
    refused(
        form,
        &[
            (r#"{"fence":{},"checkpoint":{}}"#, "a write may have one of"),
            (r#"{"fence":{"partition":1,"epoch":2}}"#, "fence.group is required"),
            (
                r#"{"handled":{"group":"g","partition":1,"epoch":2,"stream":"a","position":3,"rev":1}}"#,
                "handled must not",
            ),
        ],
    );
}
