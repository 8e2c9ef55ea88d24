//! A database on PostgreSQL: what it may lose, who may do what, who else uses it.

use eventodb_protocol::{Timestamp, VERSION};
use eventodb_store::Chain;
use eventodb_store::postgres::{APPLICATION, Examined, OpenError, Settings};

use super::clock;
use super::finding::{Finding, span};

/// Clocks that differ by more microseconds are told, and by more than the second number are an error.
const DIFFER: (i64, i64) = (2_000_000, 60_000_000);
/// The oldest version of PostgreSQL that works.
const OLDEST: i32 = 140_000;
/// Sessions that a server opens beside its pools: for notifications, tokens, probes and migrations.
const OTHERS: usize = 8;

/// There is no session with the database, or it cannot be used.
pub(super) fn unusable(error: &OpenError) -> Finding {
    let (code, cure) = match error {
        OpenError::Refused { .. } => {
            ("DATABASE_REFUSES", "Check the user and the password of --db-url, and pg_hba.conf.")
        }
        OpenError::MissingDatabase { .. } => {
            ("DATABASE_MISSING", "Create it as the line says, or name another in --db-url.")
        }
        OpenError::Privilege(_) => ("PRIVILEGE_MISSING", "Grant this role what the line names."),
        OpenError::Tls { .. } => {
            ("DATABASE_TLS", "Check sslmode and sslrootcert of --db-url, and the database's certificate.")
        }
        _ => (
            "DATABASE_UNREACHABLE",
            "Check host and port of --db-url, that PostgreSQL runs, and the network in between.",
        ),
    };
    Finding::error(code, Chain(error).to_string(), "The server would not start.", cure)
}

/// What is wrong with a database for a server with these settings.
pub(super) fn faults(found: &Examined, settings: &Settings, now: Timestamp) -> Vec<Finding> {
    let mut faults = Vec::new();
    faults.extend(version(found));
    faults.extend(durability(found));
    faults.extend(sessions(found));
    faults.extend(rights(found));
    faults.extend(pooler(found, settings));
    faults.extend(room_for_sessions(found, settings));
    faults.extend(schemas(found));
    faults.extend(missing(found));
    faults.extend(other_versions(&found.sessions));
    faults.extend(clock_differs(found));
    faults.extend(found.last_time.as_ref().and_then(|(time, log)| clock::behind_log(*time, log, now)));
    let tokens = found.expiring.iter();
    faults.extend(tokens.map(|(id, namespace, end)| clock::token_ends(id, namespace, *end, now)));
    faults
}

fn version(found: &Examined) -> Vec<Finding> {
    let mut faults = Vec::new();
    if found.version.0 < OLDEST {
        faults.push(Finding::error(
            "DATABASE_TOO_OLD",
            format!("PostgreSQL has the version {}", found.version.1),
            "The server needs 14 or newer, and would not start.",
            "Upgrade PostgreSQL (pg_upgrade), or use another.",
        ));
    }
    if found.encoding != "UTF8" {
        faults.push(Finding::error(
            "DATABASE_ENCODING",
            format!("the database {} has the encoding {}", found.database, found.encoding),
            "Messages are UTF-8; the server would not start.",
            "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and name it in --db-url.",
        ));
    }
    faults
}

fn durability(found: &Examined) -> Vec<Finding> {
    let setting = |name: &str| format!("ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()");
    let mut faults = Vec::new();
    if !found.fsync {
        faults.push(Finding::error(
            "FSYNC_OFF",
            "PostgreSQL runs with fsync=off",
            "A crash of its machine loses messages that were acknowledged, or damages the database.",
            setting("fsync"),
        ));
    }
    if !found.full_page_writes {
        faults.push(Finding::error(
            "FULL_PAGE_WRITES_OFF",
            "PostgreSQL runs with full_page_writes=off",
            "A crash in the middle of a write damages a page, which cannot be mended.",
            setting("full_page_writes"),
        ));
    }
    if !found.data_checksums {
        faults.push(Finding::warning(
            "CHECKSUMS_OFF",
            "PostgreSQL runs with data_checksums=off",
            "It does not notice a page that its disk changed, and damaged messages may be served as true.",
            "Stop PostgreSQL and run `pg_checksums --enable` on its data directory.",
        ));
    }
    faults
}

/// What the sessions of this role begin with.
fn sessions(found: &Examined) -> Vec<Finding> {
    let mut faults = Vec::new();
    if !["on", "remote_apply"].contains(&&*found.synchronous_commit) {
        faults.push(Finding::warning(
            "SYNCHRONOUS_COMMIT",
            format!("sessions of this role begin with synchronous_commit={}", found.synchronous_commit),
            "The server raises it to `on` for what it commits, so that it brings no speed here; whatever else this role writes may be \
             lost.",
            "ALTER ROLE … RESET synchronous_commit, and the same for the database and in postgresql.conf.",
        ));
    }
    if comes_before_the_catalog(&found.search_path) {
        faults.push(Finding::error(
            "SEARCH_PATH",
            format!("sessions of this role begin with search_path={}", found.search_path),
            "Functions and operators of a schema that comes before pg_catalog take the place of PostgreSQL's own, and run with the \
             rights of this role.",
            "ALTER ROLE … RESET search_path, and the same for the database; pg_catalog must come first or not be named.",
        ));
    }
    if found.is_read_only {
        faults.push(Finding::error(
            "DATABASE_READ_ONLY",
            "sessions with the database may only read",
            "It is a standby, or default_transaction_read_only says so: the server takes no writes.",
            "Name the primary in --db-url (several hosts are allowed), or reset default_transaction_read_only.",
        ));
    }
    faults
}

/// Whether a search path names the catalog behind another schema. A catalog that is not named comes first.
fn comes_before_the_catalog(path: &str) -> bool {
    path.split(',')
        .map(|name| name.trim().trim_matches('"'))
        .position(|name| name == "pg_catalog")
        .is_some_and(|at| at > 0)
}

fn rights(found: &Examined) -> Vec<Finding> {
    let mut faults = Vec::new();
    if !found.may_create {
        faults.push(Finding::error(
            "PRIVILEGE_MISSING",
            format!("this role may not create schemas in the database {}", found.database),
            "Each namespace is a schema of its own; the server would not start.",
            format!("GRANT CREATE ON DATABASE {} to this role", found.database),
        ));
    }
    if let Some(stranger) = &found.stranger {
        faults.push(Finding::error(
            "OWNED_BY_OTHERS",
            stranger.clone(),
            "Functions run with the rights of the role that calls them: their owner could do all that this role may.",
            "Connect as the owner, or give the schema and all that is in it to this role (ALTER … OWNER TO).",
        ));
    }
    faults
}

fn pooler(found: &Examined, settings: &Settings) -> Option<Finding> {
    if !found.is_pooled {
        return None;
    }
    if settings.prepare {
        return Some(Finding::error(
            "POOLER_PREPARES",
            "a pooler in transaction mode is between this machine and PostgreSQL, and --pg-prepare is on",
            "A prepared statement belongs to one connection, and the pooler changes it with each transaction: calls fail.",
            "--pg-prepare off, and --listen-url with the address of PostgreSQL itself, so that servers notify each other.",
        ));
    }
    settings.listen_url.is_none().then(|| {
        Finding::warning(
            "POOLER_SILENT",
            "a pooler in transaction mode is between this machine and PostgreSQL, and there is no --listen-url",
            "A pooler forwards no notifications: what other servers write is noticed at the next poll only.",
            "--listen-url with the address of PostgreSQL itself.",
        )
    })
}

fn room_for_sessions(found: &Examined, settings: &Settings) -> Option<Finding> {
    // Those for appends, and as many for the heads that reads ask for.
    let wanted = settings.pool_max + 2 * settings.sequencer_connections + settings.group_connections + OTHERS;
    // A pooler has its own bound.
    let is_short = !found.is_pooled && i64::from(found.connections) < i64::try_from(wanted).unwrap_or(i64::MAX);
    is_short.then(|| {
        Finding::warning(
            "SESSIONS_FEW",
            format!("PostgreSQL takes {} sessions, and this server may open {wanted}", found.connections),
            "Calls wait for a session, or fail, while others have them all. Each server on the database opens as many.",
            "Raise max_connections, or lower --pg-pool-max and --pg-append-connections.",
        )
    })
}

fn schemas(found: &Examined) -> Vec<Finding> {
    let mut faults = Vec::new();
    if let Some(newer) = found.schemas.iter().find(|state| state.is_newer) {
        faults.push(Finding::error(
            "SCHEMA_NEWER",
            format!("schema {} needs version {} or newer, this is {VERSION}", newer.schema, newer.oldest_version_then),
            "A newer server has migrated it to what this version does not know; this one would not start.",
            "Install that version, or go back to a backup of before the upgrade.",
        ));
    }
    let old = found.schemas.iter().filter(|state| state.done.is_some() && state.needs_migration()).count();
    if old > 0 {
        faults.push(Finding::warning(
            "MIGRATION_NEEDED",
            format!("{old} of {} schemas are older than this version", found.schemas.len()),
            "The next server migrates them when it starts, and each namespace when it is first used; with --auto-migrate=false it \
             does not start.",
            "`eventodb migrate --check` says what would be done, `eventodb migrate` does it.",
        ));
    }
    faults
}

fn missing(found: &Examined) -> Option<Finding> {
    let (schema, head, last) = found.missing.first()?;
    let last = match last {
        0 => "it has no message".to_owned(),
        last => format!("its last message is at {last}"),
    };
    let others = match found.missing.len() - 1 {
        0 => String::new(),
        others => format!(", and {others} more are like it"),
    };
    Some(Finding::error(
        "MESSAGES_MISSING",
        format!("the log in schema {schema} ends at global position {head}, but {last}{others}"),
        "Rows were deleted behind the server's back, or not restored: readers do not get these messages, and nothing tells them so.",
        "Restore the database from a backup. Messages that are missing elsewhere than at the end are not found here.",
    ))
}

fn other_versions(names: &[String]) -> Option<Finding> {
    let version = |name: &String| match name.strip_prefix(APPLICATION)? {
        "" => Some("before 0.2.0".to_owned()),
        rest => Some(rest.strip_prefix(' ')?.to_owned()),
    };
    let mut others: Vec<String> = names.iter().filter_map(version).filter(|version| version != VERSION).collect();
    others.sort();
    others.dedup();
    (!others.is_empty()).then(|| {
        Finding::warning(
            "SERVERS_DIFFER",
            format!("servers of other versions use this database: {}; this is {VERSION}", others.join(", ")),
            "What an older server does not know holds for it neither: rights and ends of tokens, for one.",
            "Finish the upgrade: replace those servers.",
        )
    })
}

fn clock_differs(found: &Examined) -> Option<Finding> {
    let by = found.clock_ahead;
    let (what, why, cure) = (
        format!(
            "this machine's clock is {} {} that of the database",
            span(by.unsigned_abs() / 1_000_000),
            if by > 0 { "ahead of" } else { "behind" }
        ),
        "Ends of tokens and leases of groups are compared with both clocks.",
        "Set both clocks by NTP (timedatectl, chrony).",
    );
    match by.saturating_abs() {
        by if by > DIFFER.1 => Some(Finding::error("CLOCK_DIFFERS", what, why, cure)),
        by if by > DIFFER.0 => Some(Finding::warning("CLOCK_DIFFERS", what, why, cure)),
        _ => None,
    }
}

/// What was looked at, in a line.
pub(super) fn told(found: &Examined) -> String {
    format!(
        "PostgreSQL {}, {} schemas, {} ms a question",
        found.version.1,
        found.schemas.len(),
        found.round_trip.as_millis()
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sound() -> Examined {
        Examined {
            version: (150_000, "15.0".to_owned()),
            encoding: "UTF8".to_owned(),
            database: "events".to_owned(),
            fsync: true,
            full_page_writes: true,
            data_checksums: true,
            synchronous_commit: "on".to_owned(),
            search_path: "\"$user\", public".to_owned(),
            connections: 97,
            may_create: true,
            is_read_only: false,
            stranger: None,
            clock_ahead: 0,
            round_trip: Duration::from_millis(1),
            is_pooled: false,
            sessions: vec![format!("eventodb {VERSION}"), "psql".to_owned()],
            schemas: Vec::new(),
            last_time: None,
            missing: Vec::new(),
            expiring: Vec::new(),
        }
    }

    fn codes(found: &Examined) -> Vec<(u8, &'static str)> {
        let settings = Settings::new("postgres://localhost/events".parse().expect("a good URL"));
        let faults = faults(found, &settings, Timestamp::now());
        faults.iter().map(|finding| (finding.severity as u8, finding.code)).collect()
    }

    /// Databases that a test cannot have are planted here.
    #[test]
    fn each_fault_of_a_database_is_told() {
        assert_eq!(codes(&sound()), []);
        let hour = 3_600_000_000;
        for (found, told) in [
            (Examined { version: (130_000, "13.0".to_owned()), ..sound() }, (2, "DATABASE_TOO_OLD")),
            (Examined { encoding: "LATIN1".to_owned(), ..sound() }, (2, "DATABASE_ENCODING")),
            (Examined { clock_ahead: hour, ..sound() }, (2, "CLOCK_DIFFERS")),
            (Examined { clock_ahead: -DIFFER.0 - 1, ..sound() }, (1, "CLOCK_DIFFERS")),
            (Examined { stranger: Some("table x belongs to role y".to_owned()), ..sound() }, (2, "OWNED_BY_OTHERS")),
            (Examined { connections: 20, ..sound() }, (1, "SESSIONS_FEW")),
            (Examined { connections: 20, is_pooled: true, ..sound() }, (2, "POOLER_PREPARES")),
            (Examined { sessions: vec!["eventodb".to_owned()], ..sound() }, (1, "SERVERS_DIFFER")),
            (Examined { sessions: vec!["eventodb 99.0.0".to_owned()], ..sound() }, (1, "SERVERS_DIFFER")),
            (Examined { missing: vec![("eventodb_1".to_owned(), 9, 0)], ..sound() }, (2, "MESSAGES_MISSING")),
            (Examined { search_path: "evil, pg_catalog".to_owned(), ..sound() }, (2, "SEARCH_PATH")),
        ] {
            assert_eq!(codes(&found), [told]);
        }
        let fine = Examined { clock_ahead: DIFFER.0, sessions: vec!["eventodb-copy".to_owned()], ..sound() };
        assert_eq!(codes(&fine), []);
        assert_eq!(codes(&Examined { search_path: "pg_catalog, public".to_owned(), ..sound() }), []);
    }
}
