//! Groups: what the database may do to their states. It loses the newest ones in a failover, and holds calls up.

use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::Token;
use eventodb_protocol::group::Fence;
use eventodb_protocol::group::reply::Assigned;
use eventodb_protocol::message::Expected;
use eventodb_protocol::request::Append;
use eventodb_protocol::request::group::{
    AtomicForm, CreateGroup, GroupForm, Join, MemberCall, Presented, Start, UpdateGroup, Wait,
};
use futures_util::future::join_all;

use super::fixture::{open_store, settings};
use crate::conformance::support::{PATIENCE, append, entry, message, namespace, write};
use crate::groups::{Group, Moment, Refusal};
use crate::log::{Groups, Log};
use crate::postgres::Postgres;
use crate::storage::Backend as _;
use crate::storage::groups::{Change, Found, Question};
use crate::{Error, EventStore, Settings};
use eventodb_testing::postgres;
use eventodb_testing::proxy::{Faults, Proxy};
use tokio_util::sync::CancellationToken;

const GROUP: &str = "g";
/// Longer than the watch over groups takes, shorter than a call waits before it looks for itself.
const WATCHED: Duration = Duration::from_secs(8);

/// A server with a group, whose tables are changed past it.
pub(super) struct Fixture {
    pub(super) url: String,
    schema: String,
    log: Arc<Log>,
    pub(super) store: Arc<EventStore>,
}

impl Fixture {
    pub(super) async fn new() -> Self {
        let url = postgres::database().await;
        let way = settings(&url);
        Self::by(url, way).await
    }

    /// A server that reaches the database at `url` by `way`.
    pub(super) async fn by(url: String, way: crate::postgres::Settings) -> Self {
        let store = open_store(way, Settings::default()).await;
        store.create(namespace("test", &Token::generate("test"))).await.expect("the name is free");
        let log = store.log("test").await.expect("it was just created");
        let schema = format!("eventodb_{}", log.namespace().incarnation.0);
        log.groups().create(GROUP, new_group()).await.expect("it is new");
        Self { url, schema, log, store }
    }

    pub(super) fn groups(&self) -> &Groups {
        self.log.groups()
    }

    /// The same log through another server.
    pub(super) async fn second(&self) -> (Arc<EventStore>, Arc<Log>) {
        let store = open_store(settings(&self.url), Settings::default()).await;
        let log = store.log("test").await.expect("it lives");
        (store, log)
    }

    pub(super) fn text(&self, sql: &str) -> String {
        sql.replace("{log}", &self.schema)
    }

    async fn sql(&self, sql: &str) {
        postgres::run(&self.url, &self.text(sql)).await;
    }

    pub(super) async fn number(&self, sql: &str) -> i64 {
        postgres::connect(&self.url).await.query_one(&self.text(sql), &[]).await.expect("good SQL").get(0)
    }

    /// Returns once a statement waits for another one's lock.
    pub(super) async fn until_somebody_waits(&self) {
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let held_up = async { while self.number(waits).await == 0 {} };
        tokio::time::timeout(PATIENCE, held_up).await.expect("it waits for the other");
    }

    /// Changes the group's description while `meanwhile` happens: in one transaction, which holds the number that the
    /// change wants.
    async fn describe_held_up(&self, description: &str, meanwhile: &str) -> crate::Result<()> {
        let other = postgres::connect(&self.url).await;
        other.batch_execute(&self.text(&format!("BEGIN; {meanwhile}"))).await.expect("good SQL");
        let (log, description) = (Arc::clone(&self.log), description.to_owned());
        let changing = tokio::spawn(async move { describe(log.groups(), &description).await });
        self.until_somebody_waits().await;
        other.batch_execute("COMMIT").await.expect("it goes on");
        changing.await.expect("it does not panic")
    }
}

pub(super) fn new_group() -> CreateGroup {
    CreateGroup {
        categories: ["a".to_owned()].into(),
        types: [].into(),
        partitions: 3,
        start: Start::After(0),
        session_ms: 600_000,
        max_parked: 2,
        description: String::new(),
    }
}

async fn describe(groups: &Groups, description: &str) -> crate::Result<()> {
    let update = UpdateGroup { description: Some(description.to_owned()), ..UpdateGroup::default() };
    groups.update(GROUP, update).await.map(|_| ())
}

async fn description(groups: &Groups) -> String {
    groups.update(GROUP, UpdateGroup::default()).await.expect("it is there").description
}

/// 200 changes, of which the first are pruned.
const MANY_CHANGES: &str = "
    INSERT INTO {log}.group_states (group_name, version, state)
    SELECT s.group_name, s.version + at, s.state FROM {log}.group_states AS s, generate_series(1, 200) AS at
    WHERE s.version = (SELECT max(version) FROM {log}.group_states);
    DELETE FROM {log}.group_states WHERE version < (SELECT max(version) - 64 FROM {log}.group_states)";

/// A dump that is restored has the same rows in new tables.
const RESTORE: &str = "
    CREATE TABLE {log}.restored (LIKE {log}.group_epoch INCLUDING ALL);
    INSERT INTO {log}.restored SELECT * FROM {log}.group_epoch;
    DROP TABLE {log}.group_epoch;
    ALTER TABLE {log}.restored RENAME TO group_epoch";

#[tokio::test]
async fn a_restore_ends_the_epochs_that_were_given_before() {
    for calls_first in [true, false] {
        let fixture = Fixture::new().await;
        let groups = fixture.groups();
        for _ in 0..10 {
            write(&fixture.log, "a-1", "T").await;
        }
        let joined = groups.join(GROUP, Join::default()).await.expect("there is room");
        let beat = |groups: Arc<Log>, position: i64, assigned: Vec<Assigned>| {
            let member = joined.member.clone();
            async move {
                let checkpoints = assigned.iter().map(|a| (a.partition, Presented { epoch: a.epoch, position }));
                let call = MemberCall { checkpoints: checkpoints.collect(), ..MemberCall::default() };
                groups.groups().heartbeat(GROUP, &member, call, &CancellationToken::new()).await.expect("it lives")
            }
        };
        assert!(beat(Arc::clone(&fixture.log), 5, joined.assigned.clone()).await.fenced.is_empty());
        fixture.sql(RESTORE).await;
        let (store, log) = fixture.second().await;
        let commit = async |log: &Log, given: &Assigned| {
            let form = AtomicForm::Checkpoint { partition: given.partition, epoch: given.epoch, position: 10 };
            let group = Some(GroupForm { group: GROUP.to_owned(), form });
            log.append(Append { group, ..append(vec![entry("a-1", Expected::Any, vec![message("T")])]) }).await
        };
        if !calls_first {
            for log in [&fixture.log, &log] {
                let commit = commit(log, &joined.assigned[1]).await;
                let refusal = Refusal::Fenced { reason: Fence::Epoch, partition: Some(1) };
                assert!(matches!(&commit, Err(Error::Group(found)) if *found == refusal), "{commit:?}");
            }
        }
        let told = beat(Arc::clone(&log), 10, joined.assigned.clone()).await;
        assert_eq!(told.fenced.len(), joined.assigned.len());
        let given = told.membership.assigned;
        assert!(
            given.iter().zip(&joined.assigned).all(|(now, before)| now.epoch > before.epoch && now.checkpoint == 5)
        );
        let commit = commit(&fixture.log, &joined.assigned[0]).await;
        assert!(matches!(commit, Err(Error::Group(_))), "{commit:?}");
        let told = beat(Arc::clone(&fixture.log), 10, given.clone()).await;
        assert!(told.fenced.is_empty(), "new epochs are given once");
        assert_eq!(
            told.membership.assigned.iter().map(|a| a.epoch).collect::<Vec<_>>(),
            given.iter().map(|a| a.epoch).collect::<Vec<_>>()
        );
        store.close().await;
        fixture.store.close().await;
    }
}

#[tokio::test]
async fn a_change_that_was_decided_before_a_restore_is_not_stored_after_it() {
    let fixture = Fixture::new().await;
    let backend = Postgres::open(settings(&fixture.url)).await.expect("it opens");
    let storage = backend.open(fixture.log.namespace().incarnation).await.expect("it lives").groups;
    for (meanwhile, is_stored) in [("SELECT 1", true), (RESTORE, false)] {
        let question = Question { group: GROUP.into(), known: None, gone: Vec::new(), now: None };
        let looked = storage.look(question).await.expect("the database answers");
        let Found::Changed(version, stored) = looked.group else { panic!("nothing was known") };
        let mut at = Moment { last_epoch: looked.last_epoch, home: looked.home, ..Moment::of(looked.now, looked.head) };
        let mut group = Group::load(*stored);
        group.fit(&mut at);
        group.join(&Join::default(), format!("m-{is_stored}").into(), &mut at).expect("there is room");
        fixture.sql(meanwhile).await;
        let change = Change::new(&GROUP.into(), Some(version), 1, &group, looked.last_epoch, &at);
        assert_eq!(storage.change(change).await.expect("the database answers").is_some(), is_stored, "{meanwhile}");
    }
    backend.close().await;
    fixture.store.close().await;
}

#[tokio::test]
async fn a_state_that_a_failover_lost_does_not_pass_for_the_one_in_its_place() {
    let fixture = Fixture::new().await;
    describe(fixture.groups(), "kept").await.expect("it is there");
    describe(fixture.groups(), "lost").await.expect("it is there");
    fixture.sql("DELETE FROM {log}.group_states WHERE version = (SELECT max(version) FROM {log}.group_states)").await;
    let (store, log) = fixture.second().await;
    assert_eq!(description(log.groups()).await, "kept");
    describe(log.groups(), "new").await.expect("it is there");
    assert_eq!(description(fixture.groups()).await, "new");
    store.close().await;
    fixture.store.close().await;
}

#[tokio::test]
async fn a_change_that_stood_still_is_not_stored_below_those_that_overtook_it() {
    let fixture = Fixture::new().await;
    fixture.describe_held_up("late", MANY_CHANGES).await.expect("it is decided again");
    assert_eq!(description(fixture.groups()).await, "late");
    fixture.store.close().await;
}

#[tokio::test]
async fn a_change_that_stood_still_does_not_bring_a_deleted_group_back() {
    let fixture = Fixture::new().await;
    let delete = "DO $$ BEGIN
        PERFORM {log}.change_group_2('g', s.version, s.stamp, s.version + 1, 0, '', 0, 0, NULL, NULL, 0, 0)
        FROM (SELECT * FROM {log}.group_states ORDER BY version DESC LIMIT 1) AS s; END $$";
    let late = fixture.describe_held_up("late", delete).await;
    assert!(matches!(late, Err(Error::GroupNotFound)), "{late:?}");
    assert_eq!(fixture.number("SELECT count(*) FROM {log}.group_states").await, 0);
    fixture.groups().create(GROUP, new_group()).await.expect("the name is free");
    fixture.groups().join(GROUP, Join::default()).await.expect("it is there");
    fixture.store.close().await;
}

#[tokio::test]
async fn a_group_is_made_anew_below_the_versions_of_the_former_one() {
    let fixture = Fixture::new().await;
    // As if it had changed faster than epochs grow, because the clock was set back.
    fixture.sql("UPDATE {log}.group_states SET version = version + 1000000000000000").await;
    describe(fixture.groups(), "former").await.expect("it is there");
    fixture.groups().delete(GROUP).await.expect("it is there");
    fixture.groups().create(GROUP, new_group()).await.expect("the name is free");
    assert_eq!(description(fixture.groups()).await, "");
    fixture.store.close().await;
}

#[tokio::test]
async fn what_the_first_functions_left_of_a_deleted_group_harms_no_new_one() {
    let fixture = Fixture::new().await;
    fixture.groups().delete(GROUP).await.expect("it is there");
    fixture.sql("INSERT INTO {log}.group_states (group_name, version) VALUES ('g', 9000000000000000000)").await;
    fixture.groups().create(GROUP, new_group()).await.expect("the name is free");
    describe(fixture.groups(), "new").await.expect("it is there");
    assert_eq!(description(fixture.groups()).await, "new");
    fixture.store.close().await;
}

/// An append that checks the epoch of a group's first partition, or does nothing to a group.
fn fenced(group: Option<&str>, epoch: eventodb_protocol::group::Epoch) -> Append {
    let form = AtomicForm::Fence { partition: 0, epoch };
    let group = group.map(|group| GroupForm { group: group.to_owned(), form });
    Append { group, ..append(vec![entry("out-1", Expected::Any, vec![message("T")])]) }
}

#[tokio::test]
async fn a_group_that_cannot_be_read_fails_the_appends_on_it_alone() {
    let fixture = Fixture::new().await;
    fixture.groups().create("damaged", new_group()).await.expect("it is new");
    let epoch = fixture.groups().join(GROUP, Join::default()).await.expect("it is there").assigned[0].epoch;
    fixture.sql("UPDATE {log}.group_states SET state = '{}' WHERE group_name = 'damaged'").await;
    let (store, log) = fixture.second().await;
    let group = |at: usize| [Some(GROUP), None, Some("damaged")][at % 3];
    let outcomes = join_all((0..24).map(|at| log.append(fenced(group(at), epoch)))).await;
    for (at, outcome) in outcomes.into_iter().enumerate() {
        match group(at) {
            Some("damaged") => assert!(matches!(outcome, Err(Error::Failed(_))), "{outcome:?}"),
            _ => _ = outcome.expect("nothing is in its way"),
        }
    }
    store.close().await;
    fixture.store.close().await;
}

#[tokio::test]
async fn a_group_that_others_change_all_the_time_holds_up_no_other_append() {
    let fixture = Fixture::new().await;
    let epoch = fixture.groups().join(GROUP, Join::default()).await.expect("it is there").assigned[0].epoch;
    fixture
        .sql(
            "CREATE FUNCTION public.change_first() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 RAISE EXCEPTION 'another was first' USING ERRCODE = 'serialization_failure'; END $$;
             CREATE TRIGGER change_first BEFORE INSERT ON {log}.group_states FOR EACH ROW
                 EXECUTE FUNCTION public.change_first()",
        )
        .await;
    let late = tokio::spawn({
        let log = Arc::clone(&fixture.log);
        async move { log.append(fenced(Some(GROUP), epoch)).await }
    });
    let plain = (0..50).map(|_| fixture.log.append(fenced(None, epoch)));
    let plain = tokio::time::timeout(PATIENCE, join_all(plain)).await.expect("nothing holds them up");
    assert!(plain.iter().all(Result::is_ok));
    let late = tokio::time::timeout(PATIENCE, late).await.expect("it ends").expect("no panic");
    assert!(matches!(late, Err(Error::Unavailable(_))), "certainly not written: {late:?}");
    fixture.sql("DROP TRIGGER change_first ON {log}.group_states").await;
    fixture.log.append(fenced(Some(GROUP), epoch)).await.expect("the epoch is current");
    fixture.store.close().await;
}

/// Members call the near server without a pause. The calls of a member of the far one are heard all the same.
#[tokio::test(flavor = "multi_thread")]
async fn the_calls_of_a_far_server_are_heard_beside_those_of_a_near_one() {
    let fixture = Fixture::new().await;
    let proxy = Proxy::to_database(&fixture.url, 1).await;
    let delay = Duration::from_millis(4);
    proxy.faults(Faults { delay: 1.0, shortest: delay, longest: delay, ..Faults::default() });
    let far = open_store(settings(&proxy.database_url(&fixture.url)), Settings::default()).await;
    let far_log = far.log("test").await.expect("it lives");
    let stop = CancellationToken::new();
    let near = join_all((0..16).map(|_| fixture.groups().join(GROUP, Join::default()))).await;
    let calls = near.into_iter().map(|joined| {
        let (log, stop) = (Arc::clone(&fixture.log), stop.clone());
        tokio::spawn(async move {
            let member = joined.expect("there is room").member;
            let mut calls = 0;
            while !stop.is_cancelled() {
                let call = MemberCall::default();
                log.groups().heartbeat(GROUP, &member, call, &CancellationToken::new()).await.expect("it lives");
                calls += 1;
            }
            calls
        })
    });
    let calls: Vec<_> = calls.collect();
    let member = far_log.groups().join(GROUP, Join::default()).await.expect("there is room").member;
    for _ in 0..10 {
        let call = MemberCall::default();
        far_log.groups().heartbeat(GROUP, &member, call, &CancellationToken::new()).await.expect("it is heard");
    }
    stop.cancel();
    let calls: usize = join_all(calls).await.into_iter().map(|calls| calls.expect("no panic")).sum();
    assert!(calls > 100, "and the near ones go on");
    far.close().await;
    fixture.store.close().await;
}

/// Behind a pooler no server hears of what others do: whoever waits is woken because the database is asked.
#[tokio::test(flavor = "multi_thread")]
async fn without_notifications_the_database_tells_which_groups_others_have_changed() {
    let f = Fixture::new().await;
    let deaf = settings(&f.url);
    let deaf = crate::postgres::Settings { prepare: false, listen_url: None, ..deaf };
    let other = open_store(deaf.clone(), Settings::default()).await;
    let log = other.log("test").await.expect("it lives");
    let opened = Postgres::open(deaf).await.expect("it opens").open(log.namespace().incarnation).await;
    let storage = opened.expect("it lives").groups;
    let version = async |group: &str| {
        let question = Question { group: group.into(), known: None, gone: Vec::new(), now: None };
        match storage.look(question).await.expect("the database answers").group {
            Found::Changed(version, _) => version,
            found => panic!("{found:?}"),
        }
    };
    f.groups().create("other", new_group()).await.expect("it is new");
    let known = [(GROUP.into(), version(GROUP).await), ("other".into(), version("other").await)];
    let changed = async || storage.compare(&known, None).await.expect("the database answers").changed;
    assert!(changed().await.is_empty());
    let joined = log.groups().join(GROUP, Join::default()).await.expect("it is there");
    assert_eq!(changed().await, [Arc::from(GROUP)]);
    f.groups().delete("other").await.expect("it is there");
    let mut changed = changed().await;
    changed.sort_unstable();
    assert_eq!(changed, [Arc::from(GROUP), Arc::from("other")]);

    // Two members that wait at servers which hear nothing of each other share what one of them had.
    let stop = CancellationToken::new();
    let call = |wait_ms| MemberCall { wait_ms, ..MemberCall::default() };
    let waits = log.groups().heartbeat(GROUP, &joined.member, call(60_000), &stop);
    let joins = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        f.groups().join(GROUP, Join::default()).await.expect("there is room")
    };
    let (told, _) = tokio::join!(tokio::time::timeout(WATCHED, waits), joins);
    let told = told.expect("the database was asked").expect("it lives").membership;
    assert!(!told.revoking.is_empty(), "{told:?}");
    other.close().await;
    f.store.close().await;
}

/// A call may wait before anything is known of its group: what happens afterwards is seen all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_watched_also_if_the_first_decision_takes_long() {
    let f = Fixture::new().await;
    let member = f.groups().join(GROUP, Join::default()).await.expect("it is there");
    write(&f.log, "a-1", "T").await;
    let deaf = crate::postgres::Settings { prepare: false, listen_url: None, ..settings(&f.url) };
    let other = open_store(deaf, Settings::default()).await;
    let log = other.log("test").await.expect("it lives");
    let stop = CancellationToken::new();
    let turn = log.groups().hold(GROUP).await;
    let waits = log.groups().wait(GROUP, Wait { position: 1, stream: None, timeout_ms: 60_000 }, &stop);
    let handles = async {
        // The watch has looked more than once.
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(turn);
        tokio::time::sleep(Duration::from_millis(500)).await;
        let of = |assigned: &Assigned| (assigned.partition, Presented { epoch: assigned.epoch, position: 1 });
        let call = MemberCall { checkpoints: member.assigned.iter().map(of).collect(), ..MemberCall::default() };
        f.groups().heartbeat(GROUP, &member.member, call, &stop).await.expect("it lives");
    };
    let (waited, ()) = tokio::join!(tokio::time::timeout(WATCHED, waits), handles);
    assert!(waited.expect("the database was asked").expect("it is there").reached);
    other.close().await;
    f.store.close().await;
}
