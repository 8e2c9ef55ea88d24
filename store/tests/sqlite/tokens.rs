//! What a token costs that opens nothing, and what becomes of the tokens of earlier versions and in backups.

use std::path::Path;
use std::time::Duration;

use eventodb_protocol::{Grant, Right, Timestamp, Token};
use eventodb_store::EventStore;
use eventodb_store::model::{NewToken, Rotation, TokenId};
use eventodb_store::sqlite;
use eventodb_store::sqlite::maintenance::{backup, verify};
use rusqlite::Connection;

use super::support::*;

/// A description that cannot be read stands for one that takes long to read.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_namespace_a_wrong_token_reads_the_hash_alone() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let store = open(directory.path(), sqlite::Settings::default()).await;
    create(&store, "described").await;
    let registry = Connection::open(directory.path().join("registry.db")).expect("it is there");
    let unreadable = "UPDATE namespaces SET description = CAST(x'ff' AS TEXT) WHERE name = 'described'";
    assert_eq!(registry.execute(unreadable, []).expect("it is ours"), 1);
    for namespace in ["described", "unknown"] {
        let opened = store.authorize(&Token::generate(namespace)).await.expect("nothing else is read");
        assert!(opened.is_none(), "{namespace}");
    }
    store.close().await;
}

fn new_token(token: &Token) -> NewToken {
    NewToken {
        id: TokenId::generate(),
        hash: token.hash(),
        namespace: token.namespace().into(),
        origin: None,
        description: String::new(),
        grant: Grant::everything(),
        expires_at: None,
    }
}

/// A token that opens nothing, of each kind, and what it is.
async fn wrong_tokens(store: &EventStore) -> Vec<(&'static str, Token)> {
    create(store, "shop").await;
    let token = || Token::generate("shop");
    let [revoked, rotated, rotated_to, expired] = [(); 4].map(|()| token());
    let revoked_id = store.create_token(new_token(&revoked)).await.expect("there is room").id;
    store.revoke_token(revoked_id).await.expect("it lives");
    let from = store.create_token(new_token(&rotated)).await.expect("there is room").id;
    let rotation = Rotation { from, id: TokenId::generate(), hash: rotated_to.hash(), grace: Duration::ZERO };
    store.rotate_token(rotation).await.expect("it lives");
    let long_ago = Some(Timestamp::from_micros(1));
    store.create_token(NewToken { expires_at: long_ago, ..new_token(&expired) }).await.expect("there is room");
    let of_a_deleted_namespace = create(store, "gone").await;
    store.delete("gone").await.expect("it lives");
    vec![
        ("unknown", token()),
        ("of an unknown namespace", Token::generate("none")),
        ("revoked", revoked),
        ("rotated without a grace", rotated),
        ("expired", expired),
        ("of a deleted namespace", of_a_deleted_namespace),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_of_every_kind_ask_nothing_of_the_registry() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let mut store = open(directory.path(), sqlite::Settings::default()).await;
    let wrong = wrong_tokens(&store).await;
    let registry = Connection::open(directory.path().join("registry.db")).expect("it is there");
    let rename = |from, to| registry.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}")).expect("it is ours");
    for is_opened_anew in [false, true] {
        if is_opened_anew {
            store.close().await;
            store = open(directory.path(), sqlite::Settings::default()).await;
        }
        let [good, fresh] = [(); 2].map(|()| Token::generate("shop"));
        for token in [&good, &fresh] {
            store.create_token(new_token(token)).await.expect("there is room");
        }
        assert!(store.authorize(&good).await.expect("it answers").is_some());
        rename("tokens", "hidden");
        for (kind, token) in &wrong {
            let opened = store.authorize(token).await.expect("the registry is not asked");
            assert!(opened.is_none(), "{kind}");
        }
        store.authorize(&fresh).await.expect_err("the registry is asked");
        rename("hidden", "tokens");
        assert!(store.authorize(&fresh).await.expect("it answers").is_some());
    }
    store.close().await;
}

async fn opens_everything(store: &EventStore, token: &Token) {
    let access = store.authorize(token).await.expect("the storage answers").expect("it is good");
    assert_eq!(access.grant(), &Grant::everything());
    let listed = store.tokens(token.namespace()).await.expect("it lives");
    assert_eq!(listed.iter().map(|token| token.id).collect::<Vec<_>>(), [access.token_id()]);
}

async fn backed_up(directory: &Path, folder: &Path) -> std::sync::Arc<EventStore> {
    let output = folder.join("backup");
    backup(directory, &output, &mut |_| {}).expect("the store is there");
    assert!(verify(&output, &mut |_| {}).expect("it can be read").is_sound());
    open(&output, sqlite::Settings::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_an_earlier_version_gets_every_right() {
    for version in [1, 2] {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let store = open(directory.path(), sqlite::Settings::default()).await;
        let tokens = [create(&store, "one").await, create(&store, "two").await];
        store.close().await;
        make_registry_earlier(directory.path(), version);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let restored = backed_up(directory.path(), folder.path()).await;
        let store = open(directory.path(), sqlite::Settings::default()).await;
        for store in [restored, store] {
            for token in &tokens {
                opens_everything(&store, token).await;
                let id = store.tokens(token.namespace()).await.expect("it lives")[0].id.0;
                assert!([4, 7].contains(&id.get_version_num()), "{id}");
            }
            store.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_carries_tokens_and_revives_the_revoked() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let store = open(directory.path(), sqlite::Settings::default()).await;
    let first = create(&store, "shop").await;
    let token = Token::generate("shop");
    let reader = Grant::new([Right::Read].into_iter().collect(), Default::default()).expect("good rights");
    let new = NewToken { grant: reader.clone(), ..new_token(&token) };
    let record = store.create_token(new).await.expect("there is room");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let restored = backed_up(directory.path(), folder.path()).await;
    store.revoke_token(record.id).await.expect("it lives");
    assert!(store.authorize(&token).await.expect("the storage answers").is_none());
    assert_eq!(restored.tokens("shop").await.expect("it lives")[1], record);
    for (token, grant) in [(&first, &Grant::everything()), (&token, &reader)] {
        let access = restored.authorize(token).await.expect("the storage answers").expect("it is good");
        assert_eq!(access.grant(), grant);
    }
    restored.close().await;
    let after = tempfile::tempdir().expect("a temporary folder");
    let restored = backed_up(directory.path(), after.path()).await;
    assert!(restored.authorize(&token).await.expect("the storage answers").is_none(), "it was revoked before");
    restored.close().await;
    store.close().await;
}
