//! Promises about replacing the messages of a namespace.

use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::message::Message;
use eventodb_protocol::reply::Quota;
use eventodb_protocol::{Timestamp, Token};
use uuid::Uuid;

use super::World;
use super::support::*;
use crate::error::{QuotaOf, Result};
use crate::log::{Event, Log, Start};
use crate::model::{NamespaceUpdate, Rotation, TokenId};
use crate::{Error, Replacement};

const NAME: &str = "replaced";

/// A namespace with five messages.
async fn filled(world: &World) -> (Token, Arc<Log>) {
    let token = world.create(NAME).await;
    let log = world.store.log(NAME).await.expect("it was just created");
    for _ in 0..5 {
        write(&log, "a-1", "Old").await;
    }
    (token, log)
}

async fn begin(world: &World) -> Replacement {
    world.store.replace(NAME, None).await.expect("it is there, and nobody else replaces it")
}

/// Imports `count` records, at every tenth position.
async fn import(replacement: &Replacement, count: i64) {
    let record = |at: i64| Message {
        id: Uuid::new_v4(),
        stream: "a-1".into(),
        kind: "New".into(),
        position: at - 1,
        global_position: 10 * at,
        data: "{}".into(),
        metadata: None,
        time: Timestamp::default(),
    };
    for at in 1..=count {
        replacement.log().import(vec![record(at)]).await.expect("it is empty");
    }
}

async fn try_write(log: &Arc<Log>) -> Result<i64> {
    let written = write_expecting(log, "a-1", Default::default(), message("T")).await?;
    Ok(written.first_global_position)
}

async fn opened(world: &World, token: &Token) -> Arc<Log> {
    world.store.authorize(token).await.expect("the storage answers").expect("the token stays").log().clone()
}

pub(super) async fn a_replacement_takes_the_place_when_it_is_whole(world: &mut World) {
    let (token, log) = filled(world).await;
    let mut subscription = subscribe(&log, everything(), Start::Now);
    assert_eq!(subscription.next().await, Event::CaughtUp(5));
    let before = world.store.list().await.expect("the storage answers");
    let replacement = begin(world).await;
    import(&replacement, 7).await;
    assert_eq!(all(&opened(world, &token).await).await.len(), 5, "nothing shows before it is whole");
    assert_eq!(world.store.info(NAME).await.expect("it is there").message_count, 5);
    assert_eq!(world.store.list().await.expect("the storage answers").len(), before.len());

    replacement.finish().await.expect("nothing is in the way");
    assert_eq!(subscription.next().await, Event::Closed);
    assert!(matches!(try_write(&log).await, Err(Error::Closed)));
    let log = opened(world, &token).await;
    assert_eq!(global_positions(&all(&log).await), (1..=7).map(|at| 10 * at).collect::<Vec<_>>());
    assert_eq!(try_write(&log).await.expect("it takes writes"), 71);
    let info = world.store.info(NAME).await.expect("it is there");
    assert_eq!((info.message_count, info.created_at), (8, before[0].created_at));
    if world.reopen().await {
        assert_eq!(all(&opened(world, &token).await).await.len(), 8);
    }
}

/// Somebody asks which incarnation a namespace has, and uses the answer late.
pub(super) async fn nothing_is_written_to_what_was_replaced(world: &mut World) {
    let (_, log) = filled(world).await;
    let asked = log.namespace().clone();
    let unknown = world.store.open_log(asked.clone()).await.expect("it lives");
    try_write(&unknown).await.expect("it lives");
    let replacement = begin(world).await;
    import(&replacement, 3).await;
    replacement.finish().await.expect("nothing stands in its way");
    let late = try_write(&unknown).await;
    assert!(matches!(late, Err(Error::Closed)), "{late:?}");
    let present = world.store.log(NAME).await.expect("it is there");
    let found = world.store.log_of(asked).await.expect("it is there");
    assert!(Arc::ptr_eq(&found, &present) && !present.is_closed(), "who asked early ends nothing");
    assert_eq!(positions(&all(&found).await).len(), 3);
}

pub(super) async fn one_of_nothing_empties_the_namespace(world: &mut World) {
    let (token, log) = filled(world).await;
    begin(world).await.finish().await.expect("nothing is in the way");
    let new = opened(world, &token).await;
    assert_ne!(new.namespace().incarnation, log.namespace().incarnation);
    assert_eq!(all(&new).await, vec![]);
    assert_eq!(try_write(&new).await.expect("it takes writes"), 1);
}

pub(super) async fn one_that_is_given_up_changes_nothing(world: &mut World) {
    let (token, log) = filled(world).await;
    let mut subscription = subscribe(&log, everything(), Start::Now);
    assert_eq!(subscription.next().await, Event::CaughtUp(5));
    for round in 0..3 {
        let replacement = begin(world).await;
        import(&replacement, 7).await;
        let staged = Arc::clone(replacement.log());
        replacement.discard().await;
        assert!(matches!(try_write(&staged).await, Err(Error::Closed)));
        assert_eq!(try_write(&log).await.expect("it takes writes again"), 6 + round);
        assert_eq!(take(&mut subscription, 1).await, vec![("a-1".to_owned(), 5 + round, 6 + round)]);
    }
    drop(begin(world).await);
    // It is given up in the background; meanwhile writes may be refused.
    while let Err(error) = try_write(&log).await {
        assert!(matches!(error, Error::Replacing), "{error}");
    }
    assert_eq!(global_positions(&all(&opened(world, &token).await).await), (1..=9).collect::<Vec<_>>());
    if world.reopen().await {
        assert_eq!(all(&opened(world, &token).await).await.len(), 9);
    }
}

pub(super) async fn writes_are_refused_meanwhile(world: &mut World) {
    let (_, log) = filled(world).await;
    let replacement = begin(world).await;
    assert!(matches!(try_write(&log).await, Err(Error::Replacing)));
    assert!(matches!(log.import(Vec::new()).await, Err(Error::Replacing)));
    assert!(log.is_being_replaced().await.expect("the storage answers"));
    assert!(matches!(world.store.replace(NAME, None).await, Err(Error::Replacing)));
    assert!(matches!(try_write(&log).await, Err(Error::Replacing)), "the second attempt has changed nothing");
    replacement.discard().await;
    assert!(!log.is_being_replaced().await.expect("the storage answers"));
    assert_eq!(all(&log).await.len(), 5);
    begin(world).await.finish().await.expect("the first one is over");
}

pub(super) async fn a_deletion_overtakes_a_replacement(world: &mut World) {
    let (token, _) = filled(world).await;
    let replacement = begin(world).await;
    import(&replacement, 3).await;
    world.store.delete(NAME).await.expect("it is there");
    let successor = world.create(NAME).await;
    let log = opened(world, &successor).await;
    assert_eq!(try_write(&log).await.expect("it is another namespace"), 1);
    assert!(matches!(replacement.finish().await, Err(Error::Overtaken)));
    assert!(world.store.authorize(&token).await.expect("the storage answers").is_none());
    assert_eq!(try_write(&log).await.expect("it is another namespace"), 2);
    assert_eq!(all(&opened(world, &successor).await).await.len(), 2);
}

pub(super) async fn what_was_set_meanwhile_is_kept(world: &mut World) {
    let (token, _) = filled(world).await;
    let replacement = begin(world).await;
    import(&replacement, 3).await;
    let rotated = Token::generate(NAME);
    let from = world.store.authorize(&token).await.expect("the storage answers").expect("it is good").token_id();
    let rotation = Rotation { from, id: TokenId::generate(), hash: rotated.hash(), grace: Duration::ZERO };
    world.store.rotate_token(rotation).await.expect("it is there");
    let log = opened(world, &rotated).await;
    assert!(matches!(try_write(&log).await, Err(Error::Replacing)), "it is the same log");
    replacement.finish().await.expect("a token is nothing that it holds");
    assert!(world.store.authorize(&token).await.expect("the storage answers").is_none(), "the old token");
    assert_eq!(all(&opened(world, &rotated).await).await.len(), 3);
}

async fn update(world: &World, update: NamespaceUpdate) {
    world.store.update(NAME, &update).await.expect("it lives");
}

pub(super) async fn a_namespace_that_is_protected_meanwhile_stays(world: &mut World) {
    let (token, log) = filled(world).await;
    let replacement = begin(world).await;
    import(&replacement, 7).await;
    let staged = Arc::clone(replacement.log());
    update(world, NamespaceUpdate { protected: Some(true), ..NamespaceUpdate::default() }).await;
    assert!(matches!(replacement.finish().await, Err(Error::Protected)));
    assert!(matches!(try_write(&staged).await, Err(Error::Closed)), "it is given up");
    assert_eq!(try_write(&log).await.expect("it takes writes again"), 6);
    assert_eq!(all(&opened(world, &token).await).await.len(), 6);
    assert!(world.store.info(NAME).await.expect("it is there").protected);

    update(world, NamespaceUpdate { protected: Some(false), ..NamespaceUpdate::default() }).await;
    let replacement = begin(world).await;
    for protected in [true, false] {
        update(world, NamespaceUpdate { protected: Some(protected), ..NamespaceUpdate::default() }).await;
    }
    replacement.finish().await.expect("it is not protected any more");
}

pub(super) async fn the_quota_of_the_end_holds_for_a_replacement(world: &mut World) {
    let (token, log) = filled(world).await;
    let set = async |messages, bytes| {
        let quota = Some(Quota { messages, bytes });
        update(world, NamespaceUpdate { quota, ..NamespaceUpdate::default() }).await;
    };
    for (messages, bytes, over) in [(Some(6), None, QuotaOf::Messages), (None, Some(1), QuotaOf::Bytes)] {
        set(None, None).await;
        let replacement = begin(world).await;
        import(&replacement, 7).await;
        set(messages, bytes).await;
        let refused = replacement.finish().await;
        assert!(matches!(refused, Err(Error::OverQuota(of)) if of == over), "{refused:?}");
        assert_eq!(all(&opened(world, &token).await).await.len(), 5, "what was there stays");
        assert!(!log.is_being_replaced().await.expect("the storage answers"));
    }
    set(None, None).await;
    let replacement = begin(world).await;
    import(&replacement, 7).await;
    set(Some(8), None).await;
    replacement.finish().await.expect("there is room for seven");
    let log = opened(world, &token).await;
    assert_eq!(try_write(&log).await.expect("there is room for one"), 71);
    assert!(matches!(try_write(&log).await, Err(Error::OverQuota(QuotaOf::Messages))));
}
