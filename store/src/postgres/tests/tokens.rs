//! Tokens on several servers, over connections that break, and with a registry that is away.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventodb_protocol::{Grant, Timestamp, Token};
use uuid::Uuid;

use super::fixture::{Fixture, new_namespace, open_store, settings};
use super::pair::{NAME, Pair, percentiles};
use crate::conformance::support::{PATIENCE, namespace};
use crate::error::Result;
use crate::model::{NewToken, Rotation, TokenChange, TokenId, TokenRecord};
use crate::postgres::connection::Connection;
use crate::postgres::statement::TOKENS_BY_HASH;
use crate::postgres::tokens;
use crate::storage::Backend as _;
use crate::testing::{seed, tell};
use crate::{Error, EventStore, Settings};
use eventodb_testing::postgres::{self, Server};
use eventodb_testing::proxy::{Faults, Hold, Proxy};

fn new_token(token: &Token) -> NewToken {
    NewToken {
        id: TokenId::generate(),
        hash: token.hash(),
        namespace: NAME.into(),
        origin: None,
        description: String::new(),
        grant: Grant::everything(),
        expires_at: None,
    }
}

/// A server reads what is to be taken over, and another one revokes the token meanwhile and forgets it.
#[tokio::test]
async fn a_token_that_is_revoked_while_it_is_taken_over_stays_revoked() {
    let fixture = Fixture::new().await;
    // As a server of an earlier version leaves it.
    fixture.sql("DELETE FROM eventodb.tokens").await;
    let revoking = postgres::connect(&fixture.url).await;
    let revoke = "BEGIN; UPDATE eventodb.namespaces SET token_hash = decode(repeat('00', 32), 'hex')";
    revoking.batch_execute(revoke).await.expect("nobody has it");
    let settings = settings(&fixture.url);
    let adopting = tokio::spawn(async move {
        let mut connection = Connection::open(&settings).await.expect("it answers");
        tokens::adopt(&mut connection).await
    });
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    while !adopting.is_finished() && fixture.number(waiting).await == 0 {}
    revoking.batch_execute("COMMIT").await.expect("it is open");
    adopting.await.expect("no panic").expect("it answers");
    assert_eq!(fixture.number("SELECT count(*) FROM eventodb.tokens").await, 0);
    fixture.backend.close().await;
}

/// A token that is made by one server and known to be good by another.
async fn known(maker: &EventStore, other: &EventStore) -> (Token, TokenRecord, Arc<crate::Access>) {
    let token = Token::generate(NAME);
    let record = maker.create_token(new_token(&token)).await.expect("there is room");
    let access = other.authorize(&token).await.expect("it answers").expect("it is good");
    (token, record, access)
}

/// How long it takes until what was revoked through one server has ended on the other.
async fn revoked_elsewhere(pair: &Pair, rounds: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..rounds {
        let (token, record, access) = known(&pair.servers[0], &pair.servers[1]).await;
        pair.servers[0].revoke_token(record.id).await.expect("it lives");
        let revoked = Instant::now();
        access.ended().cancelled().await;
        times.push(revoked.elapsed());
        assert!(pair.servers[1].authorize(&token).await.expect("it answers").is_none());
    }
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_through_one_server_ends_on_the_other() {
    // No poll comes to the rescue.
    let pair = Pair::with(Settings { poll_interval: PATIENCE, ..Settings::default() }, |_| {}).await;
    // Until both servers listen, the first rounds wait for that.
    revoked_elsewhere(&pair, 3).await;
    let mut times = revoked_elsewhere(&pair, 100).await;
    tell(&format!("revoked elsewhere, by notification: {}", percentiles(times.clone())));
    times.sort_unstable();
    assert!(times[98] < Duration::from_secs(1), "{times:?}");
    pair.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_through_one_server_ends_on_the_other_without_notifications() {
    let url = postgres::database().await;
    let mut deaf = settings(&url);
    // Nobody listens there.
    deaf.listen_url = Some("postgres://nobody@127.0.0.1:1/none".parse().expect("a good URL"));
    let pair = Pair::of(url, [deaf.clone(), deaf], Settings::default()).await;
    let times = revoked_elsewhere(&pair, 10).await;
    tell(&format!("revoked elsewhere, by polling: {}", percentiles(times.clone())));
    assert!(times.iter().all(|time| *time < Duration::from_secs(5)), "{times:?}");
    pair.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_rotation_without_a_grace_ends_the_token_on_the_other_server() {
    let pair = Pair::new().await;
    let (token, record, access) = known(&pair.servers[0], &pair.servers[1]).await;
    let new = Token::generate(NAME);
    for grace in [Duration::from_secs(600), Duration::ZERO] {
        let rotation = Rotation { from: record.id, id: TokenId::generate(), hash: new.hash(), grace };
        pair.servers[0].rotate_token(rotation).await.expect("it lives");
    }
    tokio::time::timeout(PATIENCE, access.ended().cancelled()).await.expect("the other server hears of it");
    assert!(pair.servers[1].authorize(&token).await.expect("it answers").is_none());
    assert!(pair.servers[1].authorize(&new).await.expect("it answers").is_some());
    pair.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_and_a_deletion_end_tokens_on_the_other_server() {
    let pair = Pair::new().await;
    let (token, record, access) = known(&pair.servers[0], &pair.servers[1]).await;
    let grace = Duration::from_secs(2);
    let rotation = Rotation { from: record.id, id: TokenId::generate(), hash: Token::generate(NAME).hash(), grace };
    let began = Instant::now();
    pair.servers[0].rotate_token(rotation).await.expect("it lives");
    assert!(pair.servers[1].authorize(&token).await.expect("it answers").is_some());
    access.ended().cancelled().await;
    let took = began.elapsed();
    assert!(took >= grace - Duration::from_millis(100) && took < grace + Duration::from_secs(1), "{took:?}");

    let (_, _, access) = known(&pair.servers[0], &pair.servers[1]).await;
    pair.servers[0].delete(NAME).await.expect("it lives");
    access.ended().cancelled().await;
    assert!(pair.servers[1].authorize(&pair.token).await.expect("it answers").is_none());
    pair.close().await;
}

/// While nothing comes through, and with connections that are refused.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_registry_is_away_good_tokens_stay_good_and_expire() {
    let url = postgres::database().await;
    let proxy = Proxy::to_database(&url, 0).await;
    // Questions that hang end soon, so that the test does.
    let mut cut_off = settings(&proxy.database_url(&url));
    cut_off.statement_timeout = Duration::from_secs(2);
    let pair = Pair::of(url.clone(), [settings(&url), cut_off], Settings::default()).await;
    let away = &pair.servers[1];
    let (revoked, record, access) = known(&pair.servers[0], away).await;
    let expiring = Token::generate(NAME);
    let expires_at = Some(Timestamp::from_micros(Timestamp::now().as_micros() + 3_000_000));
    let new = NewToken { expires_at, ..new_token(&expiring) };
    pair.servers[0].create_token(new).await.expect("there is room");
    let expiring = away.authorize(&expiring).await.expect("it answers").expect("it is good");
    let first = away.authorize(&pair.token).await.expect("it answers").expect("it is good");

    proxy.hold(Hold { requests: true, replies: true });
    pair.servers[0].revoke_token(record.id).await.expect("it lives");
    let unknown = away.authorize(&Token::generate(NAME)).await;
    assert!(matches!(unknown, Err(Error::Unavailable(_))), "{unknown:?}");
    expiring.ended().cancelled().await;
    assert!(Some(Timestamp::now()) >= expires_at);
    assert!(away.authorize(&revoked).await.expect("it was good").is_some(), "nobody knows better");
    assert!(away.authorize(&pair.token).await.expect("it was good").is_some());

    // A network that is back does not deliver what was sent before.
    proxy.cut_all();
    proxy.hold(Hold::default());
    let back = Instant::now();
    access.ended().cancelled().await;
    let took = back.elapsed();
    tell(&format!("looked up anew {took:?} after the registry was back"));
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(!first.ended().is_cancelled());
    pair.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_was_stopped_is_asked_within_a_second_of_its_return() {
    let server = Server::start(&[]);
    let url = postgres::create_database(&server.url("postgres"), "ENCODING 'UTF8'").await;
    let pair = Pair::of(url.clone(), [settings(&url), settings(&url)], Settings::default()).await;
    let (_, record, access) = known(&pair.servers[0], &pair.servers[1]).await;
    // As another server would, without a notification.
    let revoke = format!("UPDATE eventodb.tokens SET revoked_at = now() WHERE id = '{}'", record.id.0);
    postgres::run(&url, &revoke).await;
    server.stop("immediate");
    let known = pair.servers[1].authorize(&pair.token).await.expect_err("it is not known there yet");
    assert!(matches!(known, Error::Unavailable(_)), "{known}");
    server.start_again();
    let back = Instant::now();
    access.ended().cancelled().await;
    assert!(back.elapsed() < Duration::from_secs(1), "{:?}", back.elapsed());
    pair.close().await;
}

/// Calls until there is an answer that leaves nothing open.
async fn until_done<F: Future<Output = Result<TokenRecord>>>(call: impl Fn() -> F) -> (TokenRecord, usize) {
    for repeated in 0.. {
        match call().await {
            Ok(record) => return (record, repeated),
            Err(Error::Unknown(_) | Error::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("it is repeated for ever")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_loses_nothing() {
    let url = postgres::database().await;
    let proxy = Proxy::to_database(&url, seed()).await;
    let mut backend = settings(&proxy.database_url(&url));
    backend.statement_timeout = Duration::from_millis(500);
    let store = open_store(backend, Settings::default()).await;
    store.create(namespace(NAME, &Token::generate(NAME))).await.expect("the name is free");
    let mut repeats = 0;
    for round in 0..8 {
        proxy.faults(Faults { cut: 0.03, ..Faults::default() });
        let (first, second) = (Token::generate(NAME), Token::generate(NAME));
        // A caller that repeats a call makes a new id each time.
        let (created, again) = until_done(|| store.create_token(new_token(&first))).await;
        repeats += again;
        let rotate = || {
            let rotation = Rotation {
                from: created.id,
                id: TokenId(Uuid::now_v7()),
                hash: second.hash(),
                grace: if round % 2 == 0 { Duration::ZERO } else { Duration::from_secs(60) },
            };
            store.rotate_token(rotation)
        };
        let (rotated, again) = until_done(rotate).await;
        repeats += again;
        proxy.faults(Faults::default());
        let (same, _) = until_done(rotate).await;
        assert_eq!(same, rotated);
        let (revoked, again) = until_done(|| store.revoke_token(rotated.id)).await;
        repeats += again;
        let (same, _) = until_done(|| store.revoke_token(rotated.id)).await;
        assert_eq!(same.revoked_at, revoked.revoked_at);
        let (_, _) = until_done(|| store.revoke_token(created.id)).await;
    }
    tell(&format!("{repeats} calls were repeated"));
    assert!(repeats > 0, "something went wrong");
    let living = store.tokens(NAME).await.expect("it lives");
    assert_eq!(living.len(), 1, "no call happened twice: {living:?}");
    store.close().await;
}

/// What a server of an earlier version does beside this one.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_version_notes_about_tokens_is_taken_over() {
    let pair = Pair::new().await;
    let store = &pair.servers[0];
    let session = postgres::connect(&pair.url).await;
    let theirs = Token::generate("theirs");
    let create = "INSERT INTO eventodb.namespaces (name, token_hash, description, metadata, created_at)
                  VALUES ('theirs', $1, '', '{}', now())";
    session.execute(create, &[&&theirs.hash().as_bytes()[..]]).await.expect("good SQL");
    let opened = async {
        while store.authorize(&theirs).await.expect("it answers").is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, opened).await.expect("it is taken over");
    let known = async |name: &str| -> Vec<u8> {
        let select = "SELECT token_hash FROM eventodb.namespaces WHERE name = $1 AND deleted_at IS NULL";
        session.query_one(select, &[&name]).await.expect("it lives").get(0)
    };
    // They know the token that takes the place of theirs, and none that ends it.
    let id = store.authorize(&theirs).await.expect("it answers").expect("it is good").token_id();
    let next = Token::generate("theirs");
    let grace = Duration::from_secs(60);
    let rotation = Rotation { from: id, id: TokenId::generate(), hash: next.hash(), grace };
    let next_id = store.rotate_token(rotation).await.expect("it lives").id;
    assert_eq!(known("theirs").await, next.hash().as_bytes());
    store.revoke_token(next_id).await.expect("it lives");
    assert_eq!(known("theirs").await, [0; 32]);
    // A server that begins looks at once.
    open_store(settings(&pair.url), Settings::default()).await.close().await;
    let left = store.tokens("theirs").await.expect("it lives");
    assert_eq!(left.iter().map(|token| token.id).collect::<Vec<_>>(), [id], "only the one in its grace is left");
    pair.close().await;
}

/// They are asked about together: each gets its own answer all the same.
#[tokio::test(flavor = "multi_thread")]
async fn many_tokens_at_once_are_each_answered_for_themselves() {
    let fixture = Fixture::new().await;
    let made = new_namespace("made");
    let origin = fixture.backend.create(&made).await.expect("the name is free").origin;
    let ask = |number: usize| {
        let (backend, hash) = (Arc::clone(&fixture.backend), made.token_hash);
        async move {
            let wrong = Token::generate("made").hash();
            let (name, hash) = [("made", hash), ("test", hash), ("none", hash), ("made", wrong)][number % 4];
            let found = backend.token(name, &hash).await.expect("it answers");
            let expected = number.is_multiple_of(4).then_some((origin, hash));
            assert_eq!(found.map(|found| (found.origin, found.hash)), expected, "{name}");
        }
    };
    let asked: Vec<_> = (0..2_000).map(|number| tokio::spawn(ask(number))).collect();
    for answer in asked {
        answer.await.expect("it does not panic");
    }
}

/// A registry of many namespaces, each with a token, in which the planner could take to walking through tables.
#[tokio::test]
async fn each_of_many_tokens_is_found_by_the_indexes() {
    let fixture = Fixture::new().await;
    let fill = "
        INSERT INTO eventodb.namespaces (name, token_hash, description, metadata, created_at)
        SELECT 'n' || n, '', '', '{}', now() FROM generate_series(1, 20000) AS n;
        INSERT INTO eventodb.tokens (id, origin, hash, description, rights, created_at)
        SELECT gen_random_uuid(), incarnation, sha256(name::bytea), '', 15, now() FROM eventodb.namespaces;
        ANALYZE eventodb.namespaces; ANALYZE eventodb.tokens";
    fixture.sql(fill).await;
    let session = postgres::connect(&fixture.url).await;
    let names = "(SELECT array_agg('n' || n * 7) FROM generate_series(1, 1000) AS n)";
    let hashes = "(SELECT array_agg(sha256(('n' || n * 7)::bytea)) FROM generate_series(1, 1000) AS n)";
    let text = TOKENS_BY_HASH.on_registry().text();
    session.batch_execute("SET plan_cache_mode = force_generic_plan").await.expect("good SQL");
    session.batch_execute(&format!("PREPARE t (text[], bytea[]) AS {text}")).await.expect("good SQL");
    let values = session.query_one(&format!("SELECT {names}::text, {hashes}::text"), &[]).await.expect("good SQL");
    let (names, hashes): (String, String) = (values.get(0), values.get(1));
    let explain = format!("EXPLAIN EXECUTE t ('{names}', '{hashes}')");
    let plan = session.query(&explain, &[]).await.expect("good SQL");
    let plan: Vec<String> = plan.iter().map(|line| line.get(0)).collect();
    assert!(!plan.iter().any(|line| line.contains("Seq Scan")), "{plan:#?}");
    let found = session.query(&format!("EXECUTE t ('{names}', '{hashes}')"), &[]).await.expect("good SQL");
    assert_eq!(found.len(), 1_000);
}

/// What becomes of a token for a namespace while another server deletes that and makes another one of its name: the call
/// waits for the lock on the row that is deleted.
async fn made_while_the_name_is_taken(is_meant: bool) -> (Result<TokenRecord>, usize) {
    let fixture = Fixture::new().await;
    let origin = fixture.backend.namespace("test").await.expect("it answers").expect("it lives").origin;
    let other = postgres::connect(&fixture.url).await;
    let take = "BEGIN; UPDATE eventodb.namespaces SET deleted_at = now() WHERE name = 'test';
        INSERT INTO eventodb.namespaces (name, token_hash, description, metadata, created_at)
        VALUES ('test', '', '', '{}', now())";
    other.batch_execute(take).await.expect("good SQL");
    let backend = Arc::clone(&fixture.backend);
    let new = new_token(&Token::generate("test"));
    let new = NewToken { namespace: "test".into(), origin: is_meant.then_some(origin), ..new };
    let made = tokio::spawn(async move { backend.change_tokens(TokenChange::Create(new)).await });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    while fixture.number(waits).await == 0 {
        tokio::task::yield_now().await;
    }
    other.batch_execute("COMMIT").await.expect("it is open");
    let made = made.await.expect("it does not panic");
    (made, fixture.backend.tokens("test").await.expect("it answers").len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_not_made_in_a_namespace_that_takes_the_name_meanwhile() {
    let (made, tokens) = made_while_the_name_is_taken(true).await;
    assert!(matches!(made, Err(Error::NamespaceNotFound)), "{made:?}");
    assert_eq!(tokens, 0);
    let (made, tokens) = made_while_the_name_is_taken(false).await;
    assert!(made.is_ok(), "whichever has the name is meant: {made:?}");
    assert_eq!(tokens, 1);
}
