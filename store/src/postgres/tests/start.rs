//! Opening: what is refused, in which words, and migrations.

use std::sync::Arc;

use eventodb_schema::{POSTGRES_LOG, POSTGRES_REGISTRY};
use futures_util::future::join_all;

use super::fixture::{Fixture, new_namespace, settings};
use crate::Error;
use crate::error::Chain;
use crate::postgres::{OpenError, Postgres};
use crate::storage::Backend as _;
use eventodb_testing::{ports, postgres};

async fn refusal(url: &str) -> OpenError {
    let error = Postgres::open(settings(url)).await.expect_err("it must be refused");
    let text = Chain(&error).to_string();
    assert!(!text.contains('\n') && !text.contains("for-tests-only") && !text.contains("s3cret"), "{text}");
    error
}

#[tokio::test]
async fn what_is_wrong_is_said_in_one_line_without_the_password() {
    let url = postgres::database().await;
    let (scheme, rest) = url.split_once("://").expect("a good URL");
    let (_, place) = rest.rsplit_once('@').expect("it names a user");
    let wrong = refusal(&format!("{scheme}://postgres:s3cret@{place}")).await;
    assert!(matches!(wrong, OpenError::Refused { .. }), "{wrong}");
    let missing = refusal(&postgres::with_database(&url, "none_such")).await;
    assert!(matches!(missing, OpenError::MissingDatabase { .. }), "{missing}");
    let closed = format!("127.0.0.1:{}", ports::free().expect("a free port"));
    let nobody = refusal(&format!("postgres://postgres:s3cret@{closed}/postgres")).await;
    assert!(matches!(nobody, OpenError::Unreachable { .. }), "{nobody}");
    assert!(Chain(&nobody).to_string().contains(&format!("{closed}: Connection refused")), "{}", Chain(&nobody));
    let unencrypted = refusal(&format!("{url}?sslmode=require")).await;
    assert!(matches!(unencrypted, OpenError::Other(_)), "{unencrypted}");
    assert!(Chain(&unencrypted).to_string().ends_with("server does not support TLS"), "{}", Chain(&unencrypted));
    let latin = postgres::create_database(&url, "ENCODING 'LATIN1' LOCALE 'C'").await;
    assert!(matches!(refusal(&latin).await, OpenError::NotUtf8(encoding) if encoding == "LATIN1"));
}

#[tokio::test]
async fn of_several_hosts_the_one_that_answers_is_taken() {
    let url = postgres::database().await;
    let closed = format!("127.0.0.1:{}", ports::free().expect("a free port"));
    let several = url.replacen('@', &format!("@{closed},"), 1);
    Postgres::open(settings(&several)).await.expect("the second answers");
}

/// A role that may make schemas, and text that becomes it.
async fn stranger(url: &str) -> (String, String) {
    let role = format!("stranger_{:016x}", rand::random::<u64>());
    let database = url.rsplit_once('/').expect("it names a database").1;
    postgres::run(url, &format!("CREATE ROLE {role}; GRANT CREATE ON DATABASE {database} TO {role}")).await;
    let become_it = format!("SET ROLE {role};");
    (role, become_it)
}

/// What another role put into a schema would run with the rights of this one.
#[tokio::test]
async fn a_registry_that_another_role_made_beforehand_is_refused() {
    let url = postgres::database().await;
    let (role, become_it) = stranger(&url).await;
    postgres::run(&url, &format!("{become_it} CREATE SCHEMA eventodb")).await;
    let refused = refusal(&url).await;
    let text = Chain(&refused).to_string();
    assert!(text.contains("schema eventodb") && text.contains(&role), "{text}");
}

#[tokio::test]
async fn a_log_that_another_role_made_beforehand_is_neither_opened_nor_ended() {
    let fixture = Fixture::new().await;
    let (role, become_it) = stranger(&fixture.url).await;
    let planted = fixture.backend.create(&new_namespace("planted")).await.expect("the name is free").incarnation;
    let plant = "CREATE TABLE public.called (); GRANT INSERT ON public.called TO public;";
    let schema = format!(
        "CREATE SCHEMA eventodb_{0}; CREATE TABLE eventodb_{0}.batches ();
         CREATE FUNCTION eventodb_{0}.tombstone_2(uuid) RETURNS void LANGUAGE sql AS 'INSERT INTO public.called DEFAULT VALUES'",
        planted.0
    );
    fixture.sql(&format!("{plant}{become_it}{schema}")).await;
    let opened = fixture.backend.open(planted).await.map(|_| ());
    let Err(Error::Failed(cause)) = opened else { panic!("{opened:?}") };
    assert!(cause.to_string().contains(&role), "{cause}");
    let deleted = fixture.backend.delete(planted).await;
    assert!(matches!(deleted, Err(Error::Unknown(_))), "{deleted:?}");
    assert_eq!(fixture.number("SELECT count(*) FROM public.called").await, 0);
    assert_eq!(fixture.backend.message_counts().await.expect("it answers"), [(fixture.log, 0)]);
}

#[tokio::test]
async fn a_log_with_a_function_of_another_role_is_not_opened() {
    let fixture = Fixture::new().await;
    let (role, become_it) = stranger(&fixture.url).await;
    let plant = "CREATE FUNCTION {log}.append_2(int8) RETURNS void LANGUAGE sql AS ''";
    fixture.sql(&format!("GRANT USAGE, CREATE ON SCHEMA {{log}} TO {role}; {become_it} {plant}")).await;
    let opened = fixture.backend.open(fixture.log).await.map(|_| ());
    let Err(Error::Failed(cause)) = opened else { panic!("{opened:?}") };
    assert!(cause.to_string().contains("function append_2") && cause.to_string().contains(&role), "{cause}");
}

#[tokio::test]
async fn a_role_needs_no_more_than_the_documented_privileges() {
    let url = postgres::database().await;
    let role = format!("role_{:016x}", rand::random::<u64>());
    postgres::run(&url, &format!("CREATE ROLE {role} LOGIN PASSWORD 's3cret'")).await;
    let (_, place) = url.rsplit_once('@').expect("it names a user");
    let own = format!("postgres://{role}:s3cret@{place}");
    let refused = refusal(&own).await;
    assert!(matches!(refused, OpenError::Privilege(_)), "{refused}");
    let (_, database) = url.rsplit_once('/').expect("it names a database");
    postgres::run(&url, &format!("GRANT CONNECT, CREATE ON DATABASE {database} TO {role}")).await;
    let fixture = Fixture::at(own, |_| {}).await;
    fixture.write(&[("a-1", "A")]).await;
    fixture.backend.delete(fixture.log).await.expect("it answers").expect("it lives");
    fixture.purge_all().await;
    assert_eq!(fixture.number("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'eventodb_%'").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_servers_at_once_migrate_once() {
    let url = postgres::database().await;
    let opened = join_all((0..10).map(|_| Postgres::open(settings(&url)))).await;
    let servers: Vec<Arc<Postgres>> = opened.into_iter().map(|server| server.expect("all come up")).collect();
    let new = super::fixture::new_namespace("test");
    let namespace = servers[0].create(&new).await.expect("the name is free");
    let storages = join_all(servers.iter().map(|server| server.open(namespace.incarnation))).await;
    assert!(storages.iter().all(Result::is_ok));
    let fixture = Fixture::at(url, |_| {}).await;
    let steps = fixture.number("SELECT count(*) FROM eventodb.migrations").await;
    assert_eq!(steps, POSTGRES_REGISTRY.len() as i64);
    assert_eq!(fixture.number("SELECT count(*) FROM {log}.migrations").await, POSTGRES_LOG.len() as i64);
    join_all(servers.iter().map(|server| server.close())).await;
}

#[tokio::test]
async fn a_newer_schema_is_refused_unless_it_says_that_this_version_may_use_it() {
    let fixture = Fixture::new().await;
    let newer = "INSERT INTO eventodb.migrations VALUES (1000, '0.1.0', now())";
    fixture.sql(newer).await;
    Postgres::open(settings(&fixture.url)).await.expect("it may use it");
    fixture.sql("INSERT INTO eventodb.migrations VALUES (1001, '999.0.0', now())").await;
    let refused = refusal(&fixture.url).await;
    assert!(matches!(&refused, OpenError::NewerSchema { needs, .. } if needs == "999.0.0"), "{refused}");
    fixture.sql("INSERT INTO {log}.migrations VALUES (1001, '999.0.0', now())").await;
    assert!(matches!(fixture.backend.open(fixture.log).await, Err(crate::Error::Failed(_))));
}

#[tokio::test]
async fn without_auto_migrate_an_older_schema_is_refused_and_migrate_mends_it() {
    let url = postgres::database().await;
    let mut fixed = settings(&url);
    fixed.auto_migrate = false;
    let refused = Postgres::open(fixed.clone()).await.expect_err("nothing is there yet");
    assert!(matches!(refused, OpenError::MigrationNeeded(_)), "{refused}");
    Postgres::migrate(&fixed).await.expect("it may");
    let fixture = Fixture::at(url, |settings| settings.auto_migrate = false).await;
    fixture.write(&[("a-1", "A")]).await;
    Postgres::migrate(&fixed).await.expect("there is nothing to do");
}
