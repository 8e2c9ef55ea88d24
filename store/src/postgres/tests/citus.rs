//! What is sent where the extension `citus` is installed. A stand-in of it notes what it is asked to do; what Citus makes
//! of that cannot be tested here.

use std::collections::HashMap;

use super::fixture::{Fixture, new_namespace, settings};
use crate::model::Incarnation;
use crate::postgres::connection::Connection;
use crate::postgres::placement::{Address, Placement};
use crate::postgres::{OpenError, citus, migrate, start};
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

/// The tables in which Citus has what is where, with the columns that are read. This server is group 0.
const DISTRIBUTION: &str = "
    SET allow_system_table_mods = on;
    CREATE TYPE pg_catalog.noderole AS ENUM ('primary', 'secondary', 'unavailable');
    CREATE TABLE pg_catalog.pg_dist_local_group (groupid int4 PRIMARY KEY);
    CREATE TABLE pg_catalog.pg_dist_node (nodeid int4 PRIMARY KEY, groupid int4 NOT NULL, nodename text NOT NULL,
                                          nodeport int4 NOT NULL, noderole noderole NOT NULL,
                                          isactive boolean NOT NULL DEFAULT true);
    CREATE TABLE pg_catalog.pg_dist_shard (logicalrelid regclass NOT NULL, shardid int8 PRIMARY KEY);
    CREATE TABLE pg_catalog.pg_dist_placement (placementid int8 PRIMARY KEY, shardid int8 NOT NULL, groupid int4 NOT NULL);
    INSERT INTO pg_dist_local_group VALUES (0);
    INSERT INTO pg_dist_node VALUES (1, 0, 'coord', 5432, 'primary'), (2, 7, 'worker1', 6432, 'primary'),
                                    (3, 7, 'worker1-standby', 5432, 'secondary');
    CREATE SCHEMA eventodb_1001;
    CREATE TABLE eventodb_1001.batches ();
    CREATE TABLE eventodb_1001.messages ();
    CREATE SCHEMA eventodb_1002;
    CREATE TABLE eventodb_1002.batches ();
    INSERT INTO pg_dist_shard VALUES ('eventodb_1001.batches', 1), ('eventodb_1001.messages', 2),
                                     ('eventodb_1002.batches', 3);
    INSERT INTO pg_dist_placement VALUES (1, 1, 7), (2, 2, 7), (3, 3, 0)";

#[tokio::test]
async fn the_node_of_a_log_is_found_in_the_tables_of_citus() {
    let fixture = Fixture::new().await;
    let mut connection = Connection::open(&settings(&fixture.url)).await.expect("it answers");
    let look = Placement::look(&mut connection, &settings(&fixture.url)).await;
    assert!(matches!(look, Ok(Placement::One)), "{look:?}");
    fixture.sql(STAND_IN).await;
    fixture.sql(DISTRIBUTION).await;
    let look = Placement::look(&mut connection, &settings(&fixture.url)).await;
    let Ok(placement @ Placement::Citus) = look else { panic!("{look:?}") };
    let logs = [1001, 1002, 1003].map(Incarnation);
    let found = placement.find(&mut connection, &logs).await.expect("good SQL");
    let worker = Address { host: "worker1".to_owned(), port: 6432 };
    assert_eq!(found, HashMap::from([(logs[0], worker)]), "the others are here, or nowhere yet");
}

#[tokio::test]
async fn a_start_looks_at_the_cluster_and_refuses_what_cannot_work() {
    let fixture = Fixture::new().await;
    fixture.sql(STAND_IN).await;
    fixture.sql(DISTRIBUTION).await;
    start::prepare(&settings(&fixture.url)).await.expect("it can be used");
    let mut connection = Connection::open(&settings(&fixture.url)).await.expect("it answers");
    let cluster = citus::look(&mut connection, "13.2-1".to_owned()).await.expect("good SQL").to_string();
    assert_eq!(cluster, "Citus 13.2-1, schema-based sharding on, 1 worker; this is the coordinator");
    for change in [
        "UPDATE pg_extension SET extversion = '11.3-1' WHERE extname = 'citus'",
        "DO $$ BEGIN
            EXECUTE format('ALTER DATABASE %I SET citus.enable_schema_based_sharding = off', current_database());
        END $$; UPDATE pg_extension SET extversion = '13.2-1' WHERE extname = 'citus'",
    ] {
        fixture.sql(&format!("SET allow_system_table_mods = on; {change}")).await;
        let refused = start::prepare(&settings(&fixture.url)).await.expect_err("it cannot work");
        assert!(matches!(refused, OpenError::Citus(_)), "{refused}");
    }
}

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
    migrate::log(&mut connection, spread, Placement::One).await.expect("it lives");
    let session = postgres::connect(&fixture.url).await;
    let asked = session.query("SELECT called, beside FROM public.distributed", &[]).await.expect("good SQL");
    let schema = format!("eventodb_{}", spread.0);
    let mut called: Vec<&str> = asked.iter().map(|row| row.get::<_, &str>(0)).collect();
    called.sort_unstable();
    let functions = [
        "append_2",
        "append_acting_1",
        "append_acting_2",
        "be_synchronous_1",
        "change_group_1",
        "change_group_2",
        "change_group_rows_1",
        "create_group_2",
        "fence_2",
        "tombstone_2",
        "unseal_2",
    ];
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
