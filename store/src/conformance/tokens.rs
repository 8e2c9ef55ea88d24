//! Promises about tokens, and about what is noted of a namespace.

use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::limits::TOKENS;
use eventodb_protocol::reply::Quota;
use eventodb_protocol::rights::{Categories, Grant, Right};
use eventodb_protocol::{DEFAULT_NAMESPACE, Limits, Timestamp, Token};

use super::World;
use super::support::*;
use crate::model::{NamespaceUpdate, NewToken, Rotation, TokenId, TokenRecord};
use crate::{Access, Error};

const NAME: &str = "shop";

fn reader() -> Grant {
    let categories = Categories::only(["account".to_owned(), "order*".to_owned()], &Limits::default());
    Grant::new([Right::Read].into_iter().collect(), categories.expect("good names")).expect("good rights")
}

fn new_token(token: &Token, grant: Grant) -> NewToken {
    NewToken {
        id: TokenId::generate(),
        hash: token.hash(),
        namespace: token.namespace().into(),
        origin: None,
        description: "for the till".to_owned(),
        grant,
        expires_at: None,
    }
}

async fn add(world: &World, grant: Grant) -> (Token, TokenRecord) {
    let token = Token::generate(NAME);
    let record = world.store.create_token(new_token(&token, grant)).await.expect("there is room");
    (token, record)
}

async fn opened(world: &World, token: &Token) -> Option<Arc<Access>> {
    world.store.authorize(token).await.expect("the storage answers")
}

async fn access(world: &World, token: &Token) -> Arc<Access> {
    opened(world, token).await.expect("it is good")
}

async fn count(world: &World) -> usize {
    world.store.tokens(NAME).await.expect("it lives").len()
}

fn rotation(from: TokenId, to: &Token, grace: Duration) -> Rotation {
    Rotation { from, id: TokenId::generate(), hash: to.hash(), grace }
}

fn in_the_future(pause: Duration) -> Timestamp {
    Timestamp::from_micros(Timestamp::now().as_micros() + pause.as_micros() as i64)
}

pub(super) async fn a_token_is_created_once(world: &mut World) {
    world.create(NAME).await;
    let token = Token::generate(NAME);
    assert!(opened(world, &token).await.is_none());
    let first = world.store.create_token(new_token(&token, reader())).await.expect("there is room");
    let again = world.store.create_token(new_token(&token, reader())).await.expect("it is the same call");
    assert_eq!(again, first);
    assert_eq!(count(world).await, 2);
    assert_eq!(world.store.tokens(NAME).await.expect("it lives")[1], first);
    assert_eq!(world.store.token(first.id).await.expect("it answers"), Some(first.clone()));
    let opened = access(world, &token).await;
    assert_eq!((opened.token_id(), opened.grant()), (first.id, &reader()));
    assert_eq!(&*opened.log().namespace().name, NAME);
    assert!(!opened.ended().is_cancelled());

    for other in [
        new_token(&token, Grant::everything()),
        NewToken { expires_at: Some(in_the_future(Duration::from_secs(60))), ..new_token(&token, reader()) },
    ] {
        assert!(matches!(world.store.create_token(other).await, Err(Error::TokenExists)));
    }
    let nowhere = new_token(&Token::generate("none"), reader());
    assert!(matches!(world.store.create_token(nowhere).await, Err(Error::NamespaceNotFound)));
    assert!(matches!(world.store.tokens("none").await, Err(Error::NamespaceNotFound)));
    assert_eq!(world.store.token(TokenId::generate()).await.expect("it answers"), None);
}

pub(super) async fn a_namespace_has_a_bounded_number_of_tokens(world: &mut World) {
    world.create(NAME).await;
    let attempts = (0..TOKENS + 5).map(|_| {
        let (store, new) = (Arc::clone(&world.store), new_token(&Token::generate(NAME), reader()));
        tokio::spawn(async move { store.create_token(new).await })
    });
    let mut refused = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        match attempt.await.expect("no panic") {
            Ok(_) => {}
            Err(Error::TooManyTokens) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((refused, count(world).await), (6, TOKENS));
    let oldest = world.store.tokens(NAME).await.expect("it lives")[0].id;
    let without_grace = rotation(oldest, &Token::generate(NAME), Duration::ZERO);
    world.store.rotate_token(without_grace).await.expect("one takes the place of another");
    let with_grace = rotation(oldest, &Token::generate(NAME), Duration::from_secs(60));
    assert!(matches!(world.store.rotate_token(with_grace).await, Err(Error::TokenNotFound)), "it has ended");
    // What has ended is forgotten one day, so that nobody can fill the registry.
    for _ in 0..TOKENS + 20 {
        let last = world.store.tokens(NAME).await.expect("it lives").pop().expect("there is one");
        world.store.revoke_token(last.id).await.expect("it lives");
        add(world, reader()).await;
    }
    assert_eq!(count(world).await, TOKENS);
    let all = world.backend().tokens(NAME).await.expect("it answers").len();
    assert!(all <= 2 * TOKENS + 1, "{all}");
}

pub(super) async fn a_revoked_token_ends_at_once_and_for_good(world: &mut World) {
    let first = world.create(NAME).await;
    let (token, record) = add(world, reader()).await;
    let opened_before = access(world, &token).await;
    let revoked = world.store.revoke_token(record.id).await.expect("it lives");
    assert!(opened_before.ended().is_cancelled());
    assert!(opened(world, &token).await.is_none());
    let again = world.store.revoke_token(record.id).await.expect("it is known");
    assert!(revoked.revoked_at.is_some());
    assert_eq!(again.revoked_at, revoked.revoked_at);
    assert_eq!(count(world).await, 1);
    assert!(matches!(world.store.create_token(new_token(&token, reader())).await, Err(Error::TokenExists)));
    let unknown = world.store.revoke_token(TokenId::generate()).await;
    assert!(matches!(unknown, Err(Error::TokenNotFound)));
    access(world, &first).await;
    if world.reopen().await {
        assert!(opened(world, &token).await.is_none());
        access(world, &first).await;
    }
}

pub(super) async fn a_rotated_token_lasts_for_its_grace(world: &mut World) {
    world.create(NAME).await;
    let (old, record) = add(world, reader()).await;
    let opened_before = access(world, &old).await;
    let new = Token::generate(NAME);
    let grace = Duration::from_secs(1);
    let rotated = world.store.rotate_token(rotation(record.id, &new, grace)).await.expect("it lives");
    assert_eq!((&rotated.grant, rotated.expires_at, rotated.rotated_from), (&reader(), None, Some(record.id)));
    assert_eq!(rotated.description, record.description);
    assert_eq!(access(world, &new).await.token_id(), rotated.id);
    opened_before.ended().cancelled().await;
    assert!(opened(world, &old).await.is_none());
    let ended = world.store.token(record.id).await.expect("it answers").and_then(|token| token.ends_at);
    assert!(ended.is_some_and(|ended| ended <= Timestamp::now()));
    assert_eq!(access(world, &new).await.token_id(), rotated.id);

    let newest = Token::generate(NAME);
    world.store.rotate_token(rotation(rotated.id, &newest, Duration::ZERO)).await.expect("it lives");
    assert!(opened(world, &new).await.is_none());
    access(world, &newest).await;
}

pub(super) async fn a_rotation_is_repeated_without_a_second_token(world: &mut World) {
    world.create(NAME).await;
    let (old, record) = add(world, reader()).await;
    let new = Token::generate(NAME);
    for _ in 0..3 {
        let grace = Duration::from_secs(60);
        let rotated = world.store.rotate_token(rotation(record.id, &new, grace)).await.expect("it is the same call");
        assert_eq!(rotated.id, access(world, &new).await.token_id());
        assert_eq!(count(world).await, 3);
    }
    access(world, &old).await;
    let other = world.store.rotate_token(rotation(access(world, &new).await.token_id(), &old, Duration::ZERO)).await;
    assert!(matches!(other, Err(Error::TokenExists)), "the other one is no rotation of this");
    // What was rotated may be rotated again: its first end stays, and the new one has the expiry of the first.
    let third = Token::generate(NAME);
    let rotated = world.store.rotate_token(rotation(record.id, &third, Duration::from_secs(600))).await;
    assert_eq!(rotated.expect("it lives").end(), None);
    let end = world.store.token(record.id).await.expect("it answers").and_then(|token| token.end());
    assert!(end.is_some_and(|end| end < in_the_future(Duration::from_secs(120))));
}

pub(super) async fn a_repeated_rotation_brings_the_end_forward_and_never_back(world: &mut World) {
    world.create(NAME).await;
    let (old, record) = add(world, reader()).await;
    let opened_before = access(world, &old).await;
    let new = Token::generate(NAME);
    let rotate = async |seconds| {
        let repeated = rotation(record.id, &new, Duration::from_secs(seconds));
        let rotated = world.store.rotate_token(repeated).await.expect("it is the same call");
        let old = world.store.token(record.id).await.expect("it answers").expect("it is known");
        (rotated, old.end().expect("it was rotated"))
    };
    let (first, late) = rotate(604_800).await;
    assert_eq!(rotate(604_800).await, (first.clone(), late), "a reply was lost");
    let (again, sooner) = rotate(600).await;
    assert_eq!(again, first, "it is no second token");
    assert!(sooner < late && sooner <= in_the_future(Duration::from_secs(600)), "{sooner}");
    assert_eq!(rotate(604_800).await, (first.clone(), sooner), "never back");
    access(world, &old).await;
    assert!(!opened_before.ended().is_cancelled());

    let (again, end) = rotate(0).await;
    assert_eq!(again, first);
    assert!(end <= Timestamp::now());
    assert!(opened_before.ended().is_cancelled());
    assert!(opened(world, &old).await.is_none());
    assert_eq!(rotate(604_800).await, (first.clone(), end), "it has ended for good");
    assert_eq!(rotate(0).await, (first.clone(), end));
    assert!(opened(world, &old).await.is_none());
    assert_eq!(access(world, &new).await.token_id(), first.id);
    if world.reopen().await {
        assert!(opened(world, &old).await.is_none());
    }
}

pub(super) async fn a_token_expires_by_the_clock(world: &mut World) {
    world.create(NAME).await;
    let token = Token::generate(NAME);
    let expires_at = Some(in_the_future(Duration::from_millis(1_200)));
    let new = NewToken { expires_at, ..new_token(&token, reader()) };
    let record = world.store.create_token(new).await.expect("there is room");
    assert_eq!(record.expires_at, expires_at);
    let opened_before = access(world, &token).await;
    opened_before.ended().cancelled().await;
    assert!(Some(Timestamp::now()) >= expires_at, "not too early");
    assert!(opened(world, &token).await.is_none());
    assert_eq!(count(world).await, 1);
    let rotated = world.store.rotate_token(rotation(record.id, &Token::generate(NAME), Duration::from_secs(1))).await;
    assert!(matches!(rotated, Err(Error::TokenNotFound)));
    let revoked = world.store.revoke_token(record.id).await.expect("it is known");
    assert_eq!(revoked.revoked_at, expires_at, "it ended then");
}

pub(super) async fn the_last_administrator_stays(world: &mut World) {
    let first = world.create(DEFAULT_NAMESPACE).await;
    let id = access(world, &first).await.token_id();
    let spare = |grant, expires_at| {
        let token = Token::generate(DEFAULT_NAMESPACE);
        (NewToken { expires_at, ..new_token(&token, grant) }, token)
    };
    let expiring = spare(Grant::everything(), Some(in_the_future(Duration::from_secs(600)))).0;
    world.store.create_token(expiring).await.expect("there is room");
    world.store.create_token(spare(reader(), None).0).await.expect("there is room");
    let next = Token::generate(DEFAULT_NAMESPACE);
    let refused =
        [world.store.revoke_token(id).await, world.store.rotate_token(rotation(id, &next, Duration::ZERO)).await];
    assert!(refused.iter().all(|refused| matches!(refused, Err(Error::LastAdministrator))), "{refused:?}");
    access(world, &first).await;

    // Of two that are revoked at once, one stays.
    let (new, second) = spare(Grant::everything(), None);
    let second_id = world.store.create_token(new).await.expect("there is room").id;
    let (one, two) = tokio::join!(world.store.revoke_token(id), world.store.revoke_token(second_id));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    let (left, left_id) = if one.is_err() { (first, id) } else { (second, second_id) };
    let rotated =
        world.store.rotate_token(rotation(left_id, &next, Duration::from_secs(60))).await.expect("with grace");
    assert!(matches!(world.store.revoke_token(rotated.id).await, Err(Error::LastAdministrator)), "the other one ends");
    world.store.revoke_token(left_id).await.expect("another has taken its place");
    assert!(opened(world, &left).await.is_none());
    // In other namespaces the administrator helps.
    let token = world.create(NAME).await;
    let id = access(world, &token).await.token_id();
    world.store.revoke_token(id).await.expect("it is no administrator's");
}

pub(super) async fn a_lost_administrator_is_recovered(world: &mut World) {
    let first = world.create(NAME).await;
    let admin = Grant::new([Right::Admin].into_iter().collect(), Categories::All).expect("good rights");
    let (lost, _) = add(world, admin).await;
    let (limited, _) = add(world, reader()).await;
    while count(world).await < TOKENS {
        add(world, reader()).await;
    }
    let opened_before = access(world, &lost).await;
    let new = Token::generate(NAME);
    let change = crate::model::TokenChange::Recover(new_token(&new, Grant::everything()));
    world.backend().change_tokens(change).await.expect("it lives");
    if world.reopen().await {
        assert!(opened(world, &first).await.is_none() && opened(world, &lost).await.is_none());
    }
    drop(opened_before);
    assert_eq!(access(world, &new).await.grant(), &Grant::everything());
    assert_eq!(access(world, &limited).await.grant(), &reader());
}

pub(super) async fn tokens_go_with_their_namespace(world: &mut World) {
    let first = world.create(NAME).await;
    let (token, record) = add(world, reader()).await;
    let opened_before = access(world, &token).await;
    world.store.delete(NAME).await.expect("it lives");
    assert!(opened_before.ended().is_cancelled());
    assert!(opened(world, &token).await.is_none());
    assert_eq!(world.store.token(record.id).await.expect("it answers"), None);
    world.create(NAME).await;
    for old in [&first, &token] {
        assert!(opened(world, old).await.is_none(), "a later namespace of the same name");
    }
    assert!(matches!(world.store.revoke_token(record.id).await, Err(Error::TokenNotFound)));
    // The same secret is another token there.
    let again = world.store.create_token(new_token(&token, reader())).await.expect("there is room");
    assert_ne!(again.id, record.id);
    assert_eq!(access(world, &token).await.token_id(), again.id);
}

pub(super) async fn tokens_stay_when_the_namespace_is_replaced(world: &mut World) {
    let first = world.create(NAME).await;
    let (token, record) = add(world, reader()).await;
    let opened_before = access(world, &token).await;
    for _ in 0..2 {
        let replacement = world.store.replace(NAME, None).await.expect("nothing is in the way");
        let (meanwhile, _) = add(world, reader()).await;
        replacement.finish().await.expect("nothing is in the way");
        assert!(opened_before.log().append(append(Vec::new())).await.is_err(), "that log is closed");
        for token in [&first, &token, &meanwhile] {
            write(access(world, token).await.log(), "a-1", "T").await;
        }
        // What was opened by the token ends with it, although the log has changed.
        assert!(!opened_before.ended().is_cancelled());
        assert_eq!(access(world, &token).await.token_id(), record.id);
    }
    world.backend().purge().await.expect("it answers");
    assert_eq!(count(world).await, 4);
    world.store.revoke_token(record.id).await.expect("it lives");
    assert!(opened_before.ended().is_cancelled());
    world.store.delete(NAME).await.expect("it lives");
    assert!(opened(world, &first).await.is_none());
}

pub(super) async fn tokens_are_kept(world: &mut World) {
    world.create(NAME).await;
    let (token, record) = add(world, reader()).await;
    let expiring = NewToken {
        expires_at: Some(in_the_future(Duration::from_secs(600))),
        ..new_token(&Token::generate(NAME), Grant::everything())
    };
    world.store.create_token(expiring).await.expect("there is room");
    let hour = Timestamp::from_micros(1_700_000_000_000_000 / 3_600_000_000 * 3_600_000_000);
    world.backend().note_used(&[record.id], hour).await.expect("it answers");
    world.backend().note_used(&[record.id], Timestamp::from_micros(hour.as_micros() - 1)).await.expect("it answers");
    let before = world.store.tokens(NAME).await.expect("it lives");
    assert_eq!(before[1].last_used_at, Some(hour), "it never goes back");
    assert_eq!(before[0].last_used_at, None);
    let living = world.backend().living_tokens(&[record.id, TokenId::generate()]).await.expect("it answers");
    assert_eq!(living, [(record.id, None)]);
    if world.reopen().await {
        assert_eq!(world.store.tokens(NAME).await.expect("it lives"), before);
        assert_eq!(access(world, &token).await.grant(), &reader());
    }
}

pub(super) async fn the_hour_of_the_last_use_is_noted(world: &mut World) {
    world.create(NAME).await;
    let (token, record) = add(world, reader()).await;
    add(world, reader()).await;
    access(world, &token).await;
    let hour = |time: Timestamp| time.as_micros().div_euclid(3_600_000_000);
    let before = Timestamp::now();
    world.store.note_uses().await;
    let noted = world.store.token(record.id).await.expect("it answers").and_then(|token| token.last_used_at);
    let noted = noted.expect("it was used");
    assert!((hour(before)..=hour(Timestamp::now())).contains(&hour(noted)) && noted.as_micros() % 3_600_000_000 == 0);
    let unused =
        world.store.tokens(NAME).await.expect("it lives").into_iter().filter(|token| token.last_used_at.is_none());
    assert_eq!(unused.count(), 2);
}

pub(super) async fn what_is_noted_about_a_namespace_is_changed(world: &mut World) {
    world.create(NAME).await;
    let log = world.store.log(NAME).await.expect("it lives");
    let quota = Quota { messages: Some(10), bytes: None };
    let update = NamespaceUpdate { quota: Some(quota), ..NamespaceUpdate::default() };
    world.store.update(NAME, &update).await.expect("it lives");
    let update = NamespaceUpdate { description: Some("ü".to_owned()), protected: Some(true), quota: None };
    world.store.update(NAME, &update).await.expect("it lives");
    assert_eq!(log.quota(), quota);
    let seen = |info: eventodb_protocol::reply::NamespaceInfo| (info.description, info.protected, info.quota);
    let expected = ("ü".to_owned(), true, quota);
    assert_eq!(seen(world.store.info(NAME).await.expect("it lives")), expected);
    if world.reopen().await {
        assert_eq!(seen(world.store.info(NAME).await.expect("it lives")), expected);
        assert_eq!(world.store.log(NAME).await.expect("it lives").quota(), quota);
    }
    let update = NamespaceUpdate { quota: Some(Quota::default()), protected: Some(false), description: None };
    let updated = world.store.update(NAME, &update).await.expect("it lives");
    assert_eq!((updated.protected, updated.quota), (false, Quota::default()));
    world.store.replace(NAME, None).await.expect("it is there").finish().await.expect("nothing is in the way");
    assert_eq!(seen(world.store.info(NAME).await.expect("it lives")), ("ü".to_owned(), false, Quota::default()));
    assert!(matches!(world.store.update("none", &update).await, Err(Error::NamespaceNotFound)));
}

pub(super) async fn a_protected_namespace_is_neither_deleted_nor_replaced(world: &mut World) {
    let token = world.create(NAME).await;
    let protect = |protected| NamespaceUpdate { protected: Some(protected), ..NamespaceUpdate::default() };
    world.store.update(NAME, &protect(true)).await.expect("it lives");
    let incarnation = access(world, &token).await.log().namespace().incarnation;
    assert!(matches!(world.backend().delete(incarnation).await, Err(Error::Protected)));
    assert!(matches!(world.store.delete(NAME).await, Err(Error::Protected)));
    assert!(matches!(world.store.replace(NAME, None).await, Err(Error::Protected)));
    write(access(world, &token).await.log(), "a-1", "T").await;
    world.store.update(NAME, &protect(false)).await.expect("it lives");
    world.store.replace(NAME, None).await.expect("it is there").finish().await.expect("nothing is in the way");
    world.store.delete(NAME).await.expect("it lives");
}
