//! Two PostgreSQL servers that stand in for the nodes of a Citus cluster.
//!
//! Home has the registry and a table that tells which logs' schemas the other node has. A schema is moved as Citus does
//! it: its tables are locked, their rows copied, the new place noted, the old schema dropped, the lock released.

use std::process::Command;
use std::sync::OnceLock;

use futures_util::{SinkExt as _, StreamExt as _, pin_mut};
use tokio_postgres::Client;

use crate::postgres::{self, Server, connect, program, run};

/// The table at home.
const TABLE: &str = "CREATE SCHEMA IF NOT EXISTS eventodb;
    CREATE TABLE eventodb.test_placements (schema_name text PRIMARY KEY, nodename text NOT NULL, nodeport int4 NOT NULL,
                                           identity text NOT NULL)";
/// The tables of a log, those first that a write locks first.
const TABLES: &str = "SELECT c.relname::text FROM pg_class AS c JOIN pg_namespace AS s ON s.oid = c.relnamespace
    WHERE s.nspname = $1 AND c.relkind = 'r' ORDER BY c.relname <> 'batches', c.relname <> 'messages', c.relname";
/// What a server is, whatever it is called: what `initdb` gave it.
const IDENTITY: &str = "SELECT system_identifier::text FROM pg_control_system()";
/// What the servers hold need not outlive the machine.
const SETTINGS: [&str; 1] = ["fsync=off"];
/// How long a move waits for a lock before it begins anew: a write may wait for a lock that the move has.
const LOCK_TIMEOUT_MS: u32 = 300;

/// The two servers.
#[derive(Debug)]
pub struct Nodes {
    /// The one that has the registry.
    pub home: Server,
    /// The other one.
    pub away: Server,
}

/// A database of one name at both.
#[derive(Clone, Debug)]
pub struct Database {
    /// Its URL at home.
    pub home: String,
    /// Its URL at the other node.
    pub away: String,
    away_port: u16,
}

impl Nodes {
    /// Two servers of this caller alone.
    ///
    /// # Panics
    /// They do not start.
    pub fn start() -> Self {
        Self { home: Server::start(&SETTINGS), away: Server::start(&SETTINGS) }
    }

    /// The two servers of the process.
    ///
    /// # Panics
    /// They do not start.
    pub fn shared() -> &'static Self {
        static NODES: OnceLock<Nodes> = OnceLock::new();
        NODES.get_or_init(Self::start)
    }

    /// A fresh database at both, with a table at home that tells that all schemas are there.
    ///
    /// # Panics
    /// PostgreSQL refuses it.
    pub async fn database(&self) -> Database {
        self.database_of("template0").await
    }

    /// The same, with what another database has at the other node.
    ///
    /// # Panics
    /// PostgreSQL refuses it.
    pub async fn database_like(&self, template: &Database) -> Database {
        self.database_of(name(&template.away)).await
    }

    async fn database_of(&self, template: &str) -> Database {
        let home = postgres::create_database(&self.home.url("postgres"), "ENCODING 'UTF8'").await;
        let away = postgres::copy(&self.away.url("postgres"), name(&home), template, "ENCODING 'UTF8'").await;
        run(&home, TABLE).await;
        Database { home, away, away_port: self.away.port() }
    }
}

fn name(url: &str) -> &str {
    url.rsplit('/').next().expect("a URL ends with the name of its database")
}

impl Database {
    /// Notes that the other node has these schemas.
    ///
    /// # Panics
    /// PostgreSQL refuses it.
    pub async fn note_away(&self, logs: impl IntoIterator<Item = i64>) {
        self.note_at(logs, "127.0.0.1", self.away_port).await;
    }

    /// Notes that the other node has these schemas, under this name.
    ///
    /// # Panics
    /// PostgreSQL refuses it.
    pub async fn note_at(&self, logs: impl IntoIterator<Item = i64>, name: &str, port: u16) {
        self.note(logs, name, port, &identity(&self.away).await).await;
    }

    /// Notes that home has these schemas, under this name: it leads there as a coordinator leads to its nodes.
    ///
    /// # Panics
    /// PostgreSQL refuses it.
    pub async fn note_home_at(&self, logs: impl IntoIterator<Item = i64>, name: &str, port: u16) {
        self.note(logs, name, port, &identity(&self.home).await).await;
    }

    /// Notes that a node has these schemas whose name leads to the other one here, which it is not.
    ///
    /// # Panics
    /// PostgreSQL refuses it.
    pub async fn note_behind_away(&self, logs: impl IntoIterator<Item = i64>) {
        self.note(logs, "127.0.0.1", self.away_port, "another").await;
    }

    async fn note(&self, logs: impl IntoIterator<Item = i64>, name: &str, port: u16, identity: &str) {
        let client = connect(&self.home).await;
        for log in logs {
            let insert =
                "INSERT INTO eventodb.test_placements VALUES ('eventodb_' || $1::int8, $2::text, $3::int4, $4::text)
                          ON CONFLICT (schema_name) DO UPDATE SET nodename = $2, nodeport = $3, identity = $4";
            client.execute(insert, &[&log, &name, &i32::from(port), &identity]).await.expect("the table is there");
        }
    }

    /// Whether a server has the schema of a log.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn has(url: &str, log: i64) -> bool {
        let count = "SELECT count(*) FROM pg_namespace WHERE nspname = 'eventodb_' || $1::int8";
        connect(url).await.query_one(count, &[&log]).await.expect("good SQL").get::<_, i64>(0) > 0
    }

    /// How many logs have their schema at home.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn logs_at_home(&self) -> i64 {
        let count = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'eventodb\\_%'";
        connect(&self.home).await.query_one(count, &[]).await.expect("good SQL").get(0)
    }

    /// Moves a log to the other node.
    ///
    /// # Panics
    /// PostgreSQL refuses it.
    pub async fn move_away(&self, log: i64) {
        self.move_log(log, &self.home, &self.away, std::future::ready(())).await;
    }

    /// Moves a log to the other node, and ends `meanwhile`, while the move has the tables.
    ///
    /// # Panics
    /// PostgreSQL refuses it.
    pub async fn move_away_behind(&self, log: i64, meanwhile: impl Future<Output = ()>) {
        self.move_log(log, &self.home, &self.away, meanwhile).await;
    }

    /// Moves a log home.
    ///
    /// # Panics
    /// PostgreSQL refuses it.
    pub async fn move_home(&self, log: i64) {
        self.move_log(log, &self.away, &self.home, std::future::ready(())).await;
    }

    async fn move_log(&self, log: i64, from: &str, to: &str, meanwhile: impl Future<Output = ()>) {
        let schema = format!("eventodb_{log}");
        run(to, &definition(from, &schema)).await;
        let (source, target) = (connect(from).await, connect(to).await);
        let rows = source.query(TABLES, &[&schema]).await.expect("good SQL");
        let tables: Vec<String> = rows.iter().map(|row| format!("{schema}.{}", row.get::<_, &str>(0))).collect();
        lock(&source, &tables).await;
        for table in &tables {
            copy(&source, &target, table).await;
        }
        meanwhile.await;
        if to == self.away {
            self.note_away([log]).await;
        } else {
            let forget = format!("DELETE FROM eventodb.test_placements WHERE schema_name = '{schema}'");
            run(&self.home, &forget).await;
        }
        source.batch_execute(&format!("DROP SCHEMA {schema} CASCADE; COMMIT")).await.expect("it is locked");
    }
}

async fn identity(url: &str) -> String {
    connect(url).await.query_one(IDENTITY, &[]).await.expect("good SQL").get(0)
}

/// What makes a schema without its rows.
fn definition(url: &str, schema: &str) -> String {
    let output = Command::new(program("pg_dump"))
        .args(["--schema-only", "--no-owner", "--no-privileges", "--schema", schema, url])
        .output()
        .expect("pg_dump is beside the server");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("the database is UTF-8");
    // Newer versions put commands of psql around it.
    text.lines().filter(|line| !line.starts_with('\\')).collect::<Vec<_>>().join("\n")
}

/// Begins a transaction that has all tables.
async fn lock(source: &Client, tables: &[String]) {
    let lock = format!(
        "BEGIN; SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE;
         SET LOCAL lock_timeout = 0",
        tables.join(", ")
    );
    while source.batch_execute(&lock).await.is_err() {
        source.batch_execute("ROLLBACK").await.expect("it answers");
    }
}

async fn copy(source: &Client, target: &Client, table: &str) {
    let rows = source.copy_out(&format!("COPY {table} TO STDOUT (FORMAT binary)")).await.expect("it is locked");
    let sink = target.copy_in(&format!("COPY {table} FROM STDIN (FORMAT binary)")).await.expect("it is empty");
    pin_mut!(rows, sink);
    while let Some(row) = rows.next().await {
        sink.send(row.expect("it is read")).await.expect("it is taken");
    }
    sink.close().await.expect("all is there");
}
