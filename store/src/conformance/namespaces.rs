//! Promises about namespaces.

use eventodb_protocol::reply::CategoryListed;
use eventodb_protocol::request::ListPage;
use eventodb_protocol::{Grant, Token};

use super::World;
use super::groups::new_group;
use super::support::*;
use crate::Error;
use crate::log::{Event, Start};
use crate::model::{Meant, NamespaceUpdate, NewToken, TokenId};

pub(super) async fn names_are_unique(world: &mut World) {
    world.create("one").await;
    let again = world.store.create(namespace("one", &Token::generate("one"))).await;
    assert!(matches!(again, Err(Error::NamespaceExists)), "{again:?}");
    for name in ["two", "zwei ü", &"x".repeat(255)] {
        world.create(name).await;
    }
    let listed: Vec<String> =
        world.store.list().await.expect("the storage answers").into_iter().map(|listed| listed.namespace).collect();
    assert_eq!(listed, vec!["one".to_owned(), "two".to_owned(), "x".repeat(255), "zwei ü".to_owned()]);
    assert!(matches!(world.store.log("none").await, Err(Error::NamespaceNotFound)));
    assert!(matches!(world.store.info("none").await, Err(Error::NamespaceNotFound)));
    assert!(matches!(world.store.delete("none").await, Err(Error::NamespaceNotFound)));
}

pub(super) async fn a_deleted_namespace_leaves_nothing(world: &mut World) {
    let token = world.create("gone").await;
    let log = world.store.log("gone").await.expect("it was just created");
    for _ in 0..7 {
        write(&log, "a-1", "T").await;
    }
    let (_, messages) = world.store.delete("gone").await.expect("it is there");
    assert_eq!(messages, 7);
    assert!(world.store.was_deleted("gone"));
    assert!(world.store.authorize(&token).await.expect("the storage answers").is_none());
    let late = write_expecting(&log, "a-1", Default::default(), message("T")).await;
    assert!(matches!(late, Err(Error::Closed)), "{late:?}");
    let new_token = world.create("gone").await;
    assert!(!world.store.was_deleted("gone"));
    assert!(world.store.authorize(&token).await.expect("the storage answers").is_none(), "the old token");
    let log =
        world.store.authorize(&new_token).await.expect("the storage answers").expect("the new token").log().clone();
    assert_eq!(all(&log).await, vec![]);
    let first = write(&log, "a-1", "T").await;
    assert_eq!((first.first_position, first.first_global_position), (0, 1));
}

/// Somebody asks which namespace has a name, and uses the answer late.
pub(super) async fn nothing_is_written_to_what_was_deleted(world: &mut World) {
    world.create("gone").await;
    let asked = world.backend().namespace("gone").await.expect("the storage answers").expect("it was just created");
    let unknown = world.store.open_log(asked.clone()).await.expect("it lives");
    write(&unknown, "a-1", "T").await;
    world.store.delete("gone").await.expect("it is there");
    let late = write_expecting(&unknown, "a-1", Default::default(), message("T")).await;
    assert!(matches!(late, Err(Error::Closed)), "{late:?}");
    let group = unknown.groups().create("g", new_group(1, 60_000)).await;
    assert!(matches!(group, Err(Error::Closed)), "{group:?}");
    let opened = world.store.log_of(asked).await;
    assert!(matches!(opened, Err(Error::NamespaceNotFound | Error::Closed)), "{opened:?}");
    assert!(world.store.sample().heads.iter().all(|(name, _)| &**name != "gone"), "it is kept");
}

pub(super) async fn a_deletion_ends_subscriptions(world: &mut World) {
    world.create("gone").await;
    let log = world.store.log("gone").await.expect("it was just created");
    write(&log, "a-1", "T").await;
    let mut subscription = subscribe(&log, everything(), Start::Now);
    assert_eq!(subscription.next().await, Event::CaughtUp(1));
    let waiting = tokio::spawn(async move { subscription.next().await });
    world.store.delete("gone").await.expect("it is there");
    assert_eq!(waiting.await.expect("a subscriber does not panic"), Event::Closed);
}

pub(super) async fn tokens_open_their_own_namespace(world: &mut World) {
    let (one, two) = (world.create("one").await, world.create("two").await);
    for (token, name) in [(&one, "one"), (&two, "two")] {
        let log = world.store.authorize(token).await.expect("the storage answers").expect("its token").log().clone();
        assert_eq!(&*log.namespace().name, name);
    }
    for wrong in [Token::generate("one"), Token::generate("none")] {
        assert!(world.store.authorize(&wrong).await.expect("the storage answers").is_none());
    }
}

pub(super) async fn counts_are_exact(world: &mut World) {
    world.create("counted").await;
    let log = world.store.log("counted").await.expect("it was just created");
    let info = world.store.info("counted").await.expect("it is there");
    assert_eq!((info.message_count, info.stream_count, info.last_activity), (0, 0, None));
    for at in 0..31 {
        write(&log, ["a-1", "a-2", "b", "c-1"][at % 4], "T").await;
        if at % 10 == 0 {
            let counts = log.counts().await.expect("the storage answers");
            assert_eq!((counts.messages, counts.streams), (at as u64 + 1, (at as u64 + 1).min(4)));
        }
    }
    let last = all(&log).await.pop().expect("there are messages").time;
    drop(log);
    world.reopen().await;
    if let Ok(info) = world.store.info("counted").await {
        assert_eq!((info.message_count, info.stream_count, info.last_activity), (31, 4, Some(last)));
        let listed = world.store.list().await.expect("the storage answers");
        assert_eq!(listed.iter().map(|listed| listed.message_count).collect::<Vec<_>>(), vec![31]);
        let log = world.store.log("counted").await.expect("it is there");
        let categories = log.categories(&all_names()).await.expect("the storage answers");
        let counted: Vec<_> = categories.iter().map(|c| (&*c.category, c.stream_count, c.message_count)).collect();
        assert_eq!(counted, vec![("a", 2, 16), ("b", 1, 8), ("c", 1, 7)]);
    }
}

pub(super) async fn streams_are_listed_in_pages(world: &mut World) {
    let log = world.log().await;
    let names = ["a", "a-1", "a-10", "a-2", "a-ü", "b%-1", "b_-1", "bb-1", "Z-1"];
    for name in names.iter().rev() {
        write(&log, name, "T").await;
        write(&log, name, "T").await;
    }
    let list = |prefix: &str, after: Option<&str>, limit| {
        let page = ListPage { prefix: prefix.to_owned(), after: after.map(str::to_owned), limit };
        let log = log.clone();
        async move {
            let listed = log.streams(&page).await.expect("the storage answers");
            assert!(listed.iter().all(|listed| listed.version == 1));
            listed.into_iter().map(|listed| listed.stream).collect::<Vec<_>>()
        }
    };
    let mut sorted = names;
    sorted.sort_unstable();
    assert_eq!(list("", None, 100).await, sorted);
    assert_eq!(list("a-1", None, 100).await, vec!["a-1", "a-10"]);
    assert_eq!(list("b_", None, 100).await, vec!["b_-1"]);
    assert_eq!(list("b%", None, 100).await, vec!["b%-1"]);
    assert_eq!(list("none", None, 100).await, Vec::<String>::new());
    let mut paged = Vec::new();
    loop {
        let page = list("", paged.last().map(String::as_str), 2).await;
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, sorted);
}

pub(super) async fn categories_are_listed_in_pages(world: &mut World) {
    let log = world.log().await;
    let names = ["", "a", "a%", "a_", "aa", "b", "Z", "ü"];
    // Written in two parts, so that some are indexed or folded, some are not, and some are both.
    for streams in [&names[..5], &names[2..]] {
        for name in streams.iter().rev() {
            write(&log, &format!("{name}-1"), "T").await;
            write(&log, &format!("{name}-{}", streams.len()), "T").await;
        }
    }
    let list = |prefix: &str, after: Option<&str>, limit| {
        let page = ListPage { prefix: prefix.to_owned(), after: after.map(str::to_owned), limit };
        let log = log.clone();
        async move { log.categories(&page).await.expect("the storage answers") }
    };
    let counts: Vec<_> = list("", None, 100).await;
    let mut sorted = names;
    sorted.sort_unstable();
    assert_eq!(counts.iter().map(|listed| &*listed.category).collect::<Vec<_>>(), sorted);
    assert_eq!(counts.iter().map(|listed| listed.message_count).sum::<u64>(), 22);
    assert_eq!(list("a_", None, 100).await.len(), 1);
    assert_eq!(list("a", None, 100).await.len(), 4);
    assert_eq!(list("a", Some("a%"), 1).await[0].category, "a_");
    assert_eq!(list("none", None, 100).await, []);
    for limit in 1..=names.len() + 1 {
        let mut paged: Vec<CategoryListed> = Vec::new();
        loop {
            let page = list("", paged.last().map(|last| &*last.category), limit).await;
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, counts);
    }
}

fn all_names() -> ListPage {
    ListPage { prefix: String::new(), after: None, limit: 1000 }
}

pub(super) async fn a_reopened_database_has_everything(world: &mut World) {
    let token = world.create("kept").await;
    let log = world.store.log("kept").await.expect("it was just created");
    for at in 0..25 {
        write(&log, &format!("a-{}", at % 4), "T").await;
    }
    let before = all(&log).await;
    drop(log);
    for round in 0..3 {
        if !world.reopen().await {
            return;
        }
        let log = world
            .store
            .authorize(&token)
            .await
            .expect("the storage answers")
            .expect("the token opens it")
            .log()
            .clone();
        assert_eq!(all(&log).await[..25], before[..]);
        assert_eq!(write(&log, "a-0", "T").await.first_position, 7 + round);
    }
}

pub(super) async fn a_token_of_a_name_that_cannot_be_opens_nothing(world: &mut World) {
    let token = Token::generate("sh\0p");
    assert!(world.store.authorize(&token).await.expect("it is an unknown namespace").is_none());
    assert!(world.store.living_token(&token).await.expect("it is an unknown namespace").is_none());
    assert!(matches!(world.store.log("sh\0p").await, Err(Error::NamespaceNotFound)));
}

/// A caller that was let in by a token of the first namespace of a name acts when a second one has it.
pub(super) async fn a_namespace_is_not_mistaken_for_an_earlier_one_of_its_name(world: &mut World) {
    let old_token = world.create("again").await;
    let access = world.store.authorize(&old_token).await.expect("the storage answers").expect("it is the token");
    let origin = Some(access.log().namespace().origin);
    world.store.delete("again").await.expect("it is there");
    let token = world.create("again").await;
    let log = world.store.log("again").await.expect("it was just created");
    write(&log, "a-1", "T").await;

    let meant = Meant { name: "again", origin };
    let update = NamespaceUpdate { description: Some("changed".to_owned()), ..NamespaceUpdate::default() };
    let new = NewToken {
        id: TokenId::generate(),
        hash: Token::generate("again").hash(),
        namespace: "again".into(),
        origin,
        description: String::new(),
        grant: Grant::everything(),
        expires_at: None,
    };
    let store = &world.store;
    let refused = [
        ("update", store.update(meant, &update).await.map(drop)),
        ("info", store.info(meant).await.map(drop)),
        ("tokens", store.tokens(meant).await.map(drop)),
        ("create_token", store.create_token(new.clone()).await.map(drop)),
        ("replace", store.replace(meant, None).await.map(drop)),
        ("delete", store.delete(meant).await.map(drop)),
    ];
    for (act, outcome) in refused {
        assert!(matches!(outcome, Err(Error::NamespaceNotFound)), "{act}: {outcome:?}");
    }
    let info = store.info("again").await.expect("it is there");
    assert_eq!((&*info.description, info.message_count), ("", 1));
    assert_eq!(store.tokens("again").await.expect("it is there").len(), 1);

    let access = store.authorize(&token).await.expect("the storage answers").expect("it is the token");
    let meant = Meant { name: "again", origin: Some(access.log().namespace().origin) };
    store.update(meant, &update).await.expect("it is the one that is meant");
    store.create_token(NewToken { origin: meant.origin, ..new }).await.expect("it is the one that is meant");
    assert_eq!(store.tokens(meant).await.expect("it is the one that is meant").len(), 2);
    store.replace(meant, None).await.expect("it is the one that is meant").discard().await;
    store.delete(meant).await.expect("it is the one that is meant");
}
