//! What is sent where the extension `citus` is installed. A stand-in of it notes what it is asked to do; what Citus makes
//! of that cannot be tested here.

use super::fixture::{Fixture, new_namespace, settings};
use crate::postgres::connection::Connection;
use crate::postgres::migrate;
use crate::storage::Backend as _;
use eventodb_testing::postgres;

/// The extension's entry in the catalogue, the function that the last step of a log calls, and the setting.
const STAND_IN: &str = "
    SET allow_system_table_mods = on;
    CREATE TABLE public.distributed (called text, beside text);
    CREATE FUNCTION pg_catalog.create_distributed_function(
        function_name regprocedure, distribution_arg_name text DEFAULT NULL, colocate_with text DEFAULT 'default',
        force_delegation boolean DEFAULT NULL
    ) RETURNS void LANGUAGE sql AS 'INSERT INTO public.distributed VALUES ($1::text, $3)';
    INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
    VALUES (9999, 'citus', 10, 11, false, '13.2-1');
    DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET citus.enable_schema_based_sharding = on', current_database());
    END $$";

async fn plan_mode(url: &str) -> String {
    let mut connection = Connection::open(&settings(url)).await.expect("it answers");
    let mut mode = String::new();
    let show = ["SHOW plan_cache_mode".to_owned()];
    connection.for_each_of_texts(&show, |row| mode = row.get(0)).await.expect("good SQL");
    mode
}

#[tokio::test]
async fn functions_are_distributed_with_the_tables_of_their_log() {
    let fixture = Fixture::new().await;
    let spread = fixture.backend.create(&new_namespace("spread")).await.expect("the name is free").incarnation;
    fixture.sql(STAND_IN).await;
    let mut connection = Connection::open(&settings(&fixture.url)).await.expect("it answers");
    migrate::log(&mut connection, spread, true).await.expect("it lives");
    let session = postgres::connect(&fixture.url).await;
    let asked = session.query("SELECT called, beside FROM public.distributed", &[]).await.expect("good SQL");
    let schema = format!("eventodb_{}", spread.0);
    let mut called: Vec<&str> = asked.iter().map(|row| row.get::<_, &str>(0)).collect();
    called.sort_unstable();
    let functions = ["append_2", "fence_2", "tombstone_2", "unseal_2"];
    assert_eq!(called.len(), functions.len());
    assert!(called.iter().zip(functions).all(|(called, name)| called.starts_with(&format!("{schema}.{name}("))));
    assert!(asked.iter().all(|row| row.get::<_, &str>(1) == format!("{schema}.messages")));
}

#[tokio::test]
async fn a_session_forces_generic_plans_unless_citus_plans() {
    let fixture = Fixture::new().await;
    assert_eq!(plan_mode(&fixture.url).await, "force_generic_plan");
    fixture.sql(STAND_IN).await;
    assert_eq!(plan_mode(&fixture.url).await, "auto");
}
