//! The SQL of this backend: one file for each statement, and the types of its parameters.
//!
//! In a text `{log}` stands for the schema of an incarnation, `{number}` for its number, `{order}` for the direction of
//! a read; `{passes}`, `{synchronous}` and `{home}` stand for what is in the files of these names. None of them comes from
//! a request, and nothing else is ever put into a text.

use eventodb_protocol::Direction;
use tokio_postgres::types::Type;

use crate::model::Incarnation;

/// The schema of the registry.
pub(super) const REGISTRY: &str = "eventodb";

/// The number that no incarnation has: statements on it are on the registry.
const NO_LOG: Incarnation = Incarnation(0);

/// The schema of an incarnation's log.
pub(super) fn schema(incarnation: Incarnation) -> String {
    if incarnation == NO_LOG { REGISTRY.to_owned() } else { format!("{REGISTRY}_{}", incarnation.0) }
}

/// A statement's text with its placeholders, and the types of its parameters.
#[derive(Debug)]
pub(super) struct Template {
    text: &'static str,
    pub(super) types: &'static [Type],
}

/// A statement to be run on one log, in one order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statement {
    pub(super) template: &'static Template,
    log: Incarnation,
    direction: Direction,
}

/// The identity of a statement: the template's address, the log, whether it reads backward.
pub(super) type Key = (usize, i64, bool);

impl Template {
    /// The statement on the registry.
    pub(super) fn on_registry(&'static self) -> Statement {
        self.on(NO_LOG)
    }

    /// The statement on a log.
    pub(super) fn on(&'static self, log: Incarnation) -> Statement {
        self.ordered(log, Direction::Forward)
    }

    /// The statement on a log, reading in this order.
    pub(super) fn ordered(&'static self, log: Incarnation, direction: Direction) -> Statement {
        Statement { template: self, log, direction }
    }
}

impl Statement {
    /// Its identity.
    pub(super) fn key(&self) -> Key {
        (std::ptr::from_ref(self.template).addr(), self.log.0, self.direction == Direction::Backward)
    }

    /// Its text.
    pub(super) fn text(&self) -> String {
        let order = if self.direction == Direction::Backward { "DESC" } else { "ASC" };
        let text = self.template.text.replace("{synchronous}", include_str!("sql/synchronous.sql").trim_end());
        let text = text.replace("{passes}", include_str!("sql/passes.sql").trim_end());
        let text = text.replace("{home}", include_str!("sql/home.sql").trim_end());
        text.replace("{log}", &schema(self.log)).replace("{order}", order).replace("{number}", &self.log.0.to_string())
    }
}

/// Declares templates from one table of `NAME "file" [types]`.
macro_rules! templates {
    ($($name:ident $file:literal [$($type:ident),*];)*) => {
        $(pub(super) static $name: Template =
            Template { text: include_str!(concat!("sql/", $file, ".sql")), types: &[$(Type::$type),*] };)*

        /// The names and texts of all of them.
        #[cfg(test)]
        pub(super) static TEXTS: &[(&str, &str)] = &[$(($file, include_str!(concat!("sql/", $file, ".sql")))),*];
    };
}

templates! {
    APPEND "append" [INT8, INT8, UUID, UUID, INT8, INT8, INT8, BOOL, INT8_ARRAY, TEXT_ARRAY, INT8_ARRAY, BOOL_ARRAY,
        TEXT_ARRAY, INT8_ARRAY, TEXT_ARRAY, TEXT_ARRAY, UUID_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TIMESTAMPTZ_ARRAY];
    APPEND_ACTING "append_acting" [INT8, INT8, UUID, UUID, INT8, INT8, INT8, BOOL, INT8_ARRAY, TEXT_ARRAY, INT8_ARRAY,
        BOOL_ARRAY, TEXT_ARRAY, INT8_ARRAY, TEXT_ARRAY, TEXT_ARRAY, UUID_ARRAY, TEXT_ARRAY, TEXT_ARRAY,
        TIMESTAMPTZ_ARRAY, TEXT, INT8];
    FENCE "fence" [INT8, INT8, UUID, UUID];
    SETTLE "settle" [INT8, UUID, INT8, UUID, INT8];
    HEAD "head" [INT8];
    HEAD_BELOW "head_below" [INT8];
    UNSEAL "unseal" [UUID, UUID];
    VERSIONS "versions" [TEXT_ARRAY];
    FIND "find" [UUID_ARRAY];
    LOCATE "locate" [TEXT, INT8];
    LOCATE_TIME "locate_time" [TIMESTAMPTZ, INT8];
    READ_STREAM "read_stream" [TEXT, INT8, INT8, INT8, INT8, BOOL];
    READ_ALL "read_all" [INT8, INT8, INT8, INT8, BOOL];
    READ_CATEGORY "read_category" [TEXT, INT8, INT8, INT8, INT8, BOOL];
    FILTER_STREAM "filter_stream" [INT8, INT8, TEXT_ARRAY, TEXT, TEXT, INT8, INT8, INT8, INT8, INT8, INT8, BOOL];
    FILTER_ALL "filter_all" [INT8, INT8, TEXT_ARRAY, TEXT, INT8, INT8, INT8, INT8, INT8, INT8, BOOL];
    FILTER_CATEGORIES "filter_categories" [INT8, INT8, TEXT_ARRAY, TEXT, TEXT_ARRAY, INT8, INT8, INT8, INT8, INT8, INT8,
        BOOL];
    STREAMS "streams" [TEXT, TEXT, INT8];
    CATEGORIES "categories" [TEXT, TEXT, INT8];
    BYTES "bytes" [];
    BYTES_CITUS "bytes_citus" [];
    COUNTS "counts" [];
    MESSAGE_COUNT "message_count" [];
    FOLDED "folded" [];
    GROUP "group" [TEXT, INT8, TEXT_ARRAY, INT8, INT8];
    CHANGE_GROUP "change_group" [TEXT, INT8, INT8, INT8, INT8, TEXT, INT8, INT8, TEXT, TEXT, INT8, INT8];
    CHANGE_GROUP_HERE "change_group_here" [TEXT, INT8, INT8, INT8, INT8, TEXT, INT8, INT8, TEXT, TEXT, INT8, INT8, TEXT];
    COMPARE_GROUPS "compare_groups" [TEXT_ARRAY, INT8_ARRAY, INT8_ARRAY, INT8];
    RENEW_GROUPS "renew_groups" [TEXT_ARRAY, INT8_ARRAY, INT8_ARRAY, INT8_ARRAY, INT8_ARRAY, TEXT_ARRAY, INT8];
    GROUPS "groups" [];
    GROUP_AUDIT "group_audit" [TEXT, INT8, INT8];
    FOLD "fold" [INT8, INT8];
    PRUNE "prune" [INT8, INT8];
    TOMBSTONE "tombstone" [UUID];
    NAMESPACE "namespace" [TEXT];
    NAMESPACES "namespaces" [];
    CREATE "create" [TEXT, BYTEA, TEXT, TEXT, TIMESTAMPTZ];
    UPDATE "update" [TEXT, TEXT, BOOL, BOOL, INT8, INT8, INT8];
    DELETE "delete" [INT8, TIMESTAMPTZ];
    DELETED_OF_NAME "deleted_of_name" [TEXT];
    STAGE "stage" [INT8, TIMESTAMPTZ, TIMESTAMPTZ];
    KEEP "keep" [INT8, TIMESTAMPTZ];
    LOCK_STAGED "lock_staged" [INT8];
    LOCK_TERMS "lock_terms" [INT8];
    REPLACE "replace" [INT8, TIMESTAMPTZ];
    PROMOTE "promote" [INT8, INT8];
    DISCARD "discard" [INT8];
    DISCARD_EXPIRED "discard_expired" [TIMESTAMPTZ];
    HELD "held" [INT8];
    TOKENS_BY_HASH "tokens_by_hash" [TEXT_ARRAY, BYTEA_ARRAY];
    TOKEN_BY_ID "token_by_id" [UUID];
    TOKENS "tokens" [TEXT];
    LOCK_TOKENS "lock_tokens" [TEXT];
    SAVE_TOKEN "save_token" [UUID, INT8, BYTEA, TEXT, INT2, TEXT, TIMESTAMPTZ, TIMESTAMPTZ, TIMESTAMPTZ, TIMESTAMPTZ,
        TIMESTAMPTZ, UUID];
    DROP_TOKENS "drop_tokens" [UUID_ARRAY];
    SHOW_TOKEN "show_token" [TEXT, BYTEA, BYTEA];
    ADOPTABLE "adoptable" [];
    LOCK_ADOPTABLE "lock_adoptable" [INT8, BYTEA];
    ADOPT_TOKEN "adopt_token" [UUID, INT8, BYTEA, TIMESTAMPTZ];
    LIVING_TOKENS "living_tokens" [UUID_ARRAY];
    USE_TOKENS "use_tokens" [UUID_ARRAY, TIMESTAMPTZ];
    FORGET_TOKENS "forget_tokens" [];
    LIVES "lives" [INT8];
    USABLE "usable" [INT8];
    LOCK_USABLE "lock_usable" [INT8];
    EXISTS "exists" [TEXT, TEXT];
    SCHEMA_EXISTS "schema_exists" [TEXT];
    STRANGERS "strangers" [TEXT];
    LOGS "logs" [];
    MADE "made" [];
    DELETED "deleted" [];
    FORGET "forget" [INT8];
    NOTIFY "notify" [TEXT_ARRAY];
    SERVER "server" [];
    TAKE_TURN "take_turn" [INT8, TEXT];
    TURN_HOLDERS "turn_holders" [INT8, FLOAT8];
    MIGRATION_LOCK "migration_lock" [];
    VERSION "version" [];
    WITHOUT_KEY "without_key" [];
    MIGRATED "migrated" [INT8, TEXT];
    CLOCK "clock" [];
    HAS_CITUS "has_citus" [];
    PLACEMENTS_CITUS "placements_citus" [TEXT_ARRAY];
    PLACEMENTS_STAND_IN "placements_stand_in" [TEXT_ARRAY];
    NODE_CITUS "node_citus" [TEXT, INT4];
    NODE_STAND_IN "node_stand_in" [TEXT, INT4];
    SELF_CITUS "self_citus" [];
    SELF_STAND_IN "self_stand_in" [];
    LAST_MESSAGE "last_message" [];
    BEGINNING "beginning" [];
    SESSIONS "sessions" [];
    EXPIRING "expiring" [TIMESTAMPTZ, TIMESTAMPTZ];
    PING "ping" [];
    SELF_TEST "self_test" [];
}
