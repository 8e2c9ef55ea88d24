//! Calls on consumer groups: what is sent, and what comes of the replies.

use std::collections::BTreeMap;
use std::time::Duration;

use eventodb_client::Error;
use eventodb_client::group::{
    Adopt, CreateGroup, Epoch, Fence, ListPage, MemberCall, Presented, ReadGroup, ResetGroup, ResetTo, Start,
};

use crate::fake::{Answer, Fake};

const RESET: &str = r#"{"partitions":[]}"#;

#[tokio::test]
async fn options_that_are_left_out_are_not_sent() {
    let summary = r#"{"group":"g","description":"","categories":[],"types":[],"partitionCount":16,"sessionMs":1000,
        "maxParked":9,"createdAt":"2026-01-02T03:04:05Z","paused":false,"resizing":false,"resizingTo":null,"head":0}"#;
    let fake = Fake::start(move |_| Answer::ok(summary)).await;
    let group = fake.client().group("g");
    let adopt = Adopt { size: 2, checkpoints: vec![3, 4] };
    for new in [
        CreateGroup::default(),
        CreateGroup { categories: vec!["a".into()], start: Some(Start::End), ..CreateGroup::default() },
        CreateGroup { partitions: Some(4), start: Some(Start::After(7)), ..CreateGroup::default() },
        CreateGroup { adopt: Some(adopt), session_ms: Some(1000), ..CreateGroup::default() },
    ] {
        assert_eq!(group.create(&new).await.expect("created").partition_count, 16);
    }
    assert_eq!(
        fake.bodies(),
        [
            r#"["group.create","g",{}]"#,
            r#"["group.create","g",{"categories":["a"],"start":"end"}]"#,
            r#"["group.create","g",{"partitions":4,"start":7}]"#,
            r#"["group.create","g",{"adopt":{"size":2,"checkpoints":[3,4]},"sessionMs":1000}]"#,
        ]
    );
}

#[tokio::test]
async fn a_reset_is_not_sent_again_if_it_may_have_been_done() {
    let fake = Fake::start(|request| match request.body.contains("dryRun") {
        true => Answer::ok(RESET),
        false => Answer::Cut(Vec::new()),
    })
    .await;
    let group = fake.client().group("g");
    let options = |to, dry_run| ResetGroup { to, partitions: Some(vec![1]), dry_run };
    group.reset(&options(ResetTo::Group("other".into()), true)).await.expect("told");
    let error = group.reset(&options(ResetTo::Beginning, false)).await.expect_err("cut");
    assert!(matches!(error, Error::Unavailable { maybe_done: true, .. }), "{error}");
    assert_eq!(
        fake.bodies(),
        [
            r#"["group.reset","g",{"to":{"group":"other"},"partitions":[1],"dryRun":true}]"#,
            r#"["group.reset","g",{"to":"beginning","partitions":[1]}]"#,
        ]
    );
}

#[tokio::test]
async fn a_read_takes_its_heartbeat_along() {
    let page = r#"{"generation":1,"sessionMs":1000,"messages":[],"retries":[],"drained":[],"upTo":{"3":9},
        "assigned":[],"revoking":[],"fenced":[]}"#;
    let fake = Fake::start(move |_| Answer::ok(page)).await;
    let epoch = Epoch::from_number(5);
    let checkpoints = BTreeMap::from([(3, Presented { epoch, position: 7 })]);
    let heartbeat = MemberCall { checkpoints, released: BTreeMap::from([(4, epoch)]), wait_ms: 20 };
    let after = BTreeMap::from([(3, Presented { epoch, position: 8 })]);
    let read = ReadGroup { heartbeat, batch_size: Some(10), partitions: None, after };
    assert_eq!(fake.client().group("g").read("m", &read).await.expect("a page").up_to[&3], 9);
    assert_eq!(
        fake.bodies(),
        [concat!(
            r#"["group.read","g","m",{"checkpoints":{"3":{"epoch":5,"position":7}},"released":{"4":5},"waitMs":20,"#,
            r#""batchSize":10,"after":{"3":{"epoch":5,"position":8}}}]"#
        )]
    );
}

#[tokio::test]
async fn a_member_that_is_fenced_learns_why() {
    let body = r#"{"error":{"code":"FENCED","message":"m","details":{"reason":"replaced"}}}"#;
    let fake = Fake::start(move |_| Answer::Reply { status: 409, headers: String::new(), body: body.to_owned() }).await;
    let error = fake.client().group("g").heartbeat("m", &MemberCall::default()).await.expect_err("fenced");
    let Error::Fenced { fenced, .. } = error else { panic!("{error}") };
    assert_eq!((fenced.reason, fenced.partition), (Fence::Replaced, None));
    assert_eq!(fake.bodies(), [r#"["group.heartbeat","g","m",{}]"#]);
}

#[tokio::test]
async fn a_long_wait_is_several_calls() {
    let fake = Fake::start(|request| {
        Answer::ok(format!(r#"{{"reached":{},"parked":1}}"#, request.body.contains(r#""timeoutMs":30000"#)))
    })
    .await;
    let client = fake.client();
    assert!(client.wait_for("g", 7, Duration::from_secs(60)).await.expect("an answer"));
    let waited = client.group("g").wait(7, Some("a-1"), Duration::ZERO).await.expect("an answer");
    assert_eq!((waited.reached, waited.parked), (false, 1));
    assert_eq!(fake.bodies()[0], r#"["group.wait","g",{"globalPosition":7,"timeoutMs":30000}]"#);
    assert_eq!(fake.bodies()[1], r#"["group.wait","g",{"globalPosition":7,"stream":"a-1","timeoutMs":0}]"#);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let fake = Fake::start(|_| Answer::ok("[]")).await;
    let group = fake.client().group("g");
    let page = ListPage { limit: Some(5), cursor: Some("a-1".to_owned()) };
    assert!(group.parked(&page).await.expect("a list").is_empty());
    assert!(group.audit(&ListPage { limit: None, cursor: Some(9) }).await.expect("a list").is_empty());
    assert_eq!(
        fake.bodies(),
        [r#"["group.parked","g",{"limit":5,"cursor":"a-1"}]"#, r#"["group.audit","g",{"cursor":9}]"#]
    );
}
