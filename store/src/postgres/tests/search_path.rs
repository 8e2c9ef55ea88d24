//! Names that a statement could find in a schema where other roles may create something.

use std::collections::BTreeSet;

use super::fixture::{Fixture, positions, select};
use crate::postgres::statement::TEXTS;
use crate::storage::Backend as _;
use eventodb_protocol::Scope;
use eventodb_protocol::request::ListPage;
use eventodb_schema::POSTGRES_LOG;
use eventodb_testing::postgres;

/// Functions and an operator that fit what the statements call better than those of PostgreSQL do.
const IMPOSTORS: &str = "
    CREATE FUNCTION public.cardinality(bigint[]) RETURNS int LANGUAGE plpgsql AS $$BEGIN RAISE 'impostor'; END$$;
    CREATE FUNCTION public.array_agg(bigint) RETURNS bigint[] LANGUAGE plpgsql AS $$BEGIN RAISE 'impostor'; END$$;
    CREATE FUNCTION public.unnest(bigint[]) RETURNS SETOF bigint LANGUAGE plpgsql AS $$BEGIN RAISE 'impostor'; END$$;
    CREATE FUNCTION public.unnest(text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$BEGIN RAISE 'impostor'; END$$;
    CREATE FUNCTION public.unnest(uuid[]) RETURNS SETOF uuid LANGUAGE plpgsql AS $$BEGIN RAISE 'impostor'; END$$;
    CREATE FUNCTION public.hashtextextended(text, int) RETURNS bigint LANGUAGE plpgsql AS $$BEGIN RAISE 'impostor'; END$$;
    CREATE FUNCTION public.has_database_privilege(name, text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE 'impostor'; END$$;
    CREATE FUNCTION public.joined(text, bigint) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE 'impostor'; END$$;
    CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = bigint, FUNCTION = public.joined)";

#[tokio::test(flavor = "multi_thread")]
async fn functions_of_another_role_are_not_called() {
    for prepare in [true, false] {
        let url = postgres::database().await;
        let role = format!("role_{:016x}", rand::random::<u64>());
        let rights = format!("CREATE ROLE {role}; GRANT USAGE, CREATE ON SCHEMA public TO {role}; SET ROLE {role};");
        postgres::run(&url, &(rights + IMPOSTORS)).await;
        let fixture = Fixture::at(url, |settings| settings.prepare = prepare).await;
        fixture.write(&[("a-1", "A"), ("b-1", "B")]).await;
        let open = fixture.batch(&[("a-1", "C")]).await;
        let open = super::fixture::open_batch(open.after, open.messages, &["a-1"]);
        fixture.append(&open).await.expect("its own functions are called");
        let id = open.messages[0].id;
        assert_eq!(fixture.storage.find(&[id]).await.expect("it answers").len(), 1);
        for scope in [Scope::All, Scope::Stream("a-1".into()), Scope::Categories(vec!["a".into(), "b".into()])] {
            assert!(!positions(&fixture.read(select(scope)).await).is_empty());
        }
        let page = ListPage { prefix: String::new(), after: None, limit: 10 };
        assert_eq!(fixture.storage.streams(&page).await.expect("it answers").len(), 2);
        assert_eq!(fixture.storage.categories(&page).await.expect("it answers").len(), 2);
        assert_eq!(fixture.backend.message_counts().await.expect("it answers"), [(fixture.log, 3)]);
        fixture.backend.close().await;
    }
}

/// Texts that are no statement of the table.
const FRAGMENTS: &[&str] =
    &[include_str!("../sql/session.sql"), include_str!("../sql/synchronous.sql"), include_str!("../sql/passes.sql")];

#[tokio::test]
async fn every_function_in_a_statement_is_named_with_its_schema() {
    let session = postgres::connect(&postgres::database().await).await;
    let rows = session.query("SELECT DISTINCT proname::text FROM pg_proc", &[]).await.expect("good SQL");
    let functions: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let statements = TEXTS.iter().map(|(_, text)| *text).chain(FRAGMENTS.iter().copied());
    // The first step only makes tables.
    let steps = POSTGRES_LOG.iter().skip(1).map(|step| step.sql);
    for text in statements.chain(steps) {
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
        let code = code.join("\n");
        assert!(!code.contains("||"), "an operator that others may define for other types: {text}");
        for (at, _) in code.match_indices('(') {
            let before = &code[..at];
            let begins = before.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |end| end + 1);
            let (name, is_qualified) = (&before[begins..], before[..begins].ends_with('.'));
            assert!(is_qualified || !functions.contains(name), "{name} is to be pg_catalog.{name}: {text}");
        }
    }
}
