//! The tokens that are known to be good, and what each opens.
//!
//! A token is looked up in the registry when it is first used. From then on it is known here, until it is revoked, until
//! it expires, or until its namespace is gone. Wrong tokens are never kept, so that there are at most as many known
//! ones as there are living ones.
//!
//! The tokens are found by their SHA-256, which a sender cannot choose: how long a lookup takes tells nothing about
//! the tokens that are known.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use eventodb_protocol::token::TokenHash;
use eventodb_protocol::{Grant, Timestamp};
use foldhash::fast::RandomState;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::log::Log;
use crate::model::{Incarnation, TokenId, TokenRecord};

/// Stands for no end.
const NEVER: i64 = i64::MAX;
/// How often the clock is looked at while a token is known that will end, because the clock may jump.
const LOOK_AT_CLOCK: Duration = Duration::from_millis(500);

/// What a token opens: the log of its namespace, with the token's rights.
#[derive(Debug)]
pub struct Access {
    log: Arc<Log>,
    token: Arc<LivingToken>,
}

/// A token that is known to be good.
#[derive(Debug)]
struct LivingToken {
    id: TokenId,
    origin: Incarnation,
    grant: Grant,
    /// Microseconds since 1970; it never moves to a later time.
    end: AtomicI64,
    ended: CancellationToken,
    /// Whether it was used since that was last noted.
    used: AtomicBool,
    /// The hour that is noted, in microseconds since 1970.
    noted: AtomicI64,
}

impl Access {
    /// The log of the token's namespace.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The token's public name.
    pub fn token_id(&self) -> TokenId {
        self.token.id
    }

    /// What the token allows.
    pub fn grant(&self) -> &Grant {
        &self.token.grant
    }

    /// Is cancelled when the token ends: when it is revoked or expires, when the grace of its rotation is over, or when
    /// its namespace is gone. What the token has opened ends then.
    pub fn ended(&self) -> &CancellationToken {
        &self.token.ended
    }
}

impl LivingToken {
    fn new(record: &TokenRecord) -> Self {
        Self {
            id: record.id,
            origin: record.origin,
            grant: record.grant.clone(),
            end: AtomicI64::new(record.end().map_or(NEVER, Timestamp::as_micros)),
            ended: CancellationToken::new(),
            used: AtomicBool::new(false),
            noted: AtomicI64::new(record.last_used_at.map_or(i64::MIN, Timestamp::as_micros)),
        }
    }

    fn has_ended(&self) -> bool {
        let end = self.end.load(Relaxed);
        end != NEVER && end <= Timestamp::now().as_micros()
    }

    fn note_use(&self) {
        // Most of the time it is noted already, and then the line of the cache is not written to.
        if !self.used.load(Relaxed) {
            self.used.store(true, Relaxed);
        }
    }
}

/// The tokens that are known to be good.
#[derive(Debug)]
pub(super) struct KnownTokens {
    known: RwLock<HashMap<TokenHash, Arc<Access>, RandomState>>,
    /// Those that are being looked up, to be known then.
    sought: Mutex<HashMap<TokenId, Sought>>,
    /// One that will end was added, or will end sooner.
    sooner: Notify,
    /// When the registry was last asked about all of them and answered.
    pub(super) looked_up: Mutex<Instant>,
}

/// A token that is being looked up.
#[derive(Debug)]
struct Sought {
    origin: Incarnation,
    /// How many lookups are under way.
    lookups: usize,
    /// How often its end was changed meanwhile.
    changes: u64,
}

/// A lookup of a token. While it is under way, changes of the token's end are noted, which may come between the answer of the
/// registry and the moment from which the token is known.
#[derive(Debug)]
pub(super) struct Lookup<'a> {
    tokens: &'a KnownTokens,
    id: TokenId,
}

impl Lookup<'_> {
    /// How often the token's end was changed until now. To be asked before the registry is.
    pub(super) fn changes(&self) -> u64 {
        self.tokens.sought.lock().get(&self.id).map_or(0, |sought| sought.changes)
    }

    /// From now on the token is known to open that log. `None` if its end was changed since there were so many `changes`:
    /// the registry is to be asked once more.
    pub(super) fn add(&self, record: &TokenRecord, log: &Arc<Log>, changes: u64) -> Option<Arc<Access>> {
        self.tokens.add(record, log, || self.changes() == changes)
    }
}

impl Drop for Lookup<'_> {
    fn drop(&mut self) {
        let mut all = self.tokens.sought.lock();
        if let Some(sought) = all.get_mut(&self.id) {
            sought.lookups -= 1;
            if sought.lookups == 0 {
                all.remove(&self.id);
            }
        }
    }
}

impl Default for KnownTokens {
    fn default() -> Self {
        Self {
            known: RwLock::default(),
            sought: Mutex::default(),
            sooner: Notify::new(),
            looked_up: Mutex::new(Instant::now()),
        }
    }
}

impl KnownTokens {
    /// What the token with this hash opens, if it is known.
    pub(super) fn get(&self, hash: &TokenHash) -> Option<Arc<Access>> {
        let known = self.known.read();
        let access = known.get(hash)?;
        if access.log.is_closed() || access.token.has_ended() {
            return None;
        }
        access.token.note_use();
        Some(Arc::clone(access))
    }

    /// Begins to look up a token that is to be known then.
    pub(super) fn look_up(&self, id: TokenId, origin: Incarnation) -> Lookup<'_> {
        self.sought.lock().entry(id).or_insert(Sought { origin, lookups: 0, changes: 0 }).lookups += 1;
        Lookup { tokens: self, id }
    }

    /// From now on this token is known to open that log, if it still may be.
    fn add(&self, record: &TokenRecord, log: &Arc<Log>, may_be: impl FnOnce() -> bool) -> Option<Arc<Access>> {
        let mut known = self.known.write();
        // Who changes an end notes it first, and then waits for this lock.
        if !may_be() {
            return None;
        }
        let before = known.get(&record.hash).map(|access| Arc::clone(&access.token));
        // If the namespace was replaced, what the token opened before must still end with the token.
        let token = match before {
            Some(token) if token.id == record.id => token,
            before => {
                before.iter().for_each(|token| token.ended.cancel());
                Arc::new(LivingToken::new(record))
            }
        };
        token.note_use();
        let access = Arc::new(Access { log: Arc::clone(log), token });
        known.insert(record.hash, Arc::clone(&access));
        drop(known);
        self.end_sooner(&record.end().map(|end| (record.id, end)).into_iter().collect());
        Some(access)
    }

    /// This token opens nothing any more.
    pub(super) fn end(&self, id: TokenId) {
        self.note_change(|sought, _| sought == id);
        self.end_if(|token| token.id == id);
    }

    /// No token of this origin opens anything any more.
    pub(super) fn end_of(&self, origin: Incarnation) {
        self.note_change(|_, sought| sought == origin);
        self.end_if(|token| token.origin == origin);
    }

    fn note_change(&self, is_meant: impl Fn(TokenId, Incarnation) -> bool) {
        for (id, sought) in &mut *self.sought.lock() {
            if is_meant(*id, sought.origin) {
                sought.changes += 1;
            }
        }
    }

    /// The tokens, of those that were `asked` about, that are not among the `living` have ended. The others end when it
    /// is said there.
    pub(super) fn keep(&self, asked: &[TokenId], living: &[(TokenId, Option<Timestamp>)]) {
        let mut gone: HashSet<TokenId> = asked.iter().copied().collect();
        for (id, _) in living {
            gone.remove(id);
        }
        if !gone.is_empty() {
            self.end_if(|token| gone.contains(&token.id));
        }
        let ends: HashMap<_, _> = living.iter().filter_map(|(id, end)| end.map(|end| (*id, end))).collect();
        self.end_sooner(&ends);
    }

    /// A token ends at this time, if it would end later otherwise.
    pub(super) fn end_at(&self, id: TokenId, end: Option<Timestamp>) {
        self.note_change(|sought, _| sought == id);
        if let Some(end) = end {
            self.end_sooner(&HashMap::from([(id, end)]));
        }
    }

    fn end_sooner(&self, ends: &HashMap<TokenId, Timestamp>) {
        if ends.is_empty() {
            return;
        }
        for access in self.known.read().values() {
            if let Some(end) = ends.get(&access.token.id) {
                access.token.end.fetch_min(end.as_micros(), Relaxed);
            }
        }
        self.sooner.notify_one();
    }

    fn end_if(&self, ends: impl Fn(&LivingToken) -> bool) {
        self.known.write().retain(|_, access| {
            let ended = ends(&access.token);
            if ended {
                access.token.ended.cancel();
            }
            !ended
        });
    }

    /// The ids of all.
    pub(super) fn ids(&self) -> Vec<TokenId> {
        self.known.read().values().map(|access| access.token.id).collect()
    }

    /// The ids of those that were used, and whose use in this hour is not noted yet.
    pub(super) fn take_used(&self, hour: Timestamp) -> Vec<TokenId> {
        let known = self.known.read();
        let used = known.values().map(|access| &access.token).filter(|token| token.used.swap(false, Relaxed));
        used.filter(|token| token.noted.load(Relaxed) < hour.as_micros()).map(|token| token.id).collect()
    }

    /// The use of these in this hour is noted, or has to be noted another time.
    pub(super) fn noted(&self, ids: &[TokenId], hour: Option<Timestamp>) {
        let ids: HashSet<&TokenId> = ids.iter().collect();
        for access in self.known.read().values().filter(|access| ids.contains(&access.token.id)) {
            match hour {
                Some(hour) => access.token.noted.store(hour.as_micros(), Relaxed),
                None => access.token.used.store(true, Relaxed),
            }
        }
    }

    /// Ends each token when its time has come, until the caller drops this.
    pub(super) async fn end_in_time(&self) {
        loop {
            let next = self.known.read().values().map(|access| access.token.end.load(Relaxed)).min().unwrap_or(NEVER);
            if next == NEVER {
                self.sooner.notified().await;
                continue;
            }
            let left = next.saturating_sub(Timestamp::now().as_micros());
            if left <= 0 {
                self.end_if(LivingToken::has_ended);
                continue;
            }
            let left = Duration::from_micros(left.unsigned_abs()).min(LOOK_AT_CLOCK);
            // Woken or not, the clock is looked at again.
            let _ = tokio::time::timeout(left, self.sooner.notified()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use eventodb_protocol::Token;

    use super::*;
    use crate::EventStore;
    use crate::model::NewNamespace;
    use crate::settings::Settings;
    use crate::sqlite::{self, Location, Sqlite};

    /// A store with one namespace, its token, and the token's record.
    async fn store() -> (Arc<EventStore>, Token, TokenRecord) {
        let backend = Sqlite::open(Location::Memory, sqlite::Settings::default()).expect("memory opens");
        let store = EventStore::open(backend, Settings::default()).await.expect("the store opens");
        let token = Token::generate("shop");
        let new = NewNamespace {
            name: "shop".to_owned(),
            token_hash: token.hash(),
            description: String::new(),
            metadata: "{}".to_owned(),
        };
        store.create(new).await.expect("it is new");
        let record = store.living_token(&token).await.expect("it answers").expect("it lives");
        (store, token, record)
    }

    #[tokio::test]
    async fn a_change_of_its_end_during_a_lookup_is_noticed() {
        let (store, token, record) = store().await;
        let (tokens, log) = (&store.tokens, store.log("shop").await.expect("it lives"));
        let changes: [&dyn Fn(); 3] = [&|| tokens.end(record.id), &|| tokens.end_of(record.origin), &|| {
            tokens.end_at(record.id, Some(Timestamp::from_micros(1)))
        }];
        for change in changes {
            let lookups = [tokens.look_up(record.id, record.origin), tokens.look_up(record.id, record.origin)];
            let seen = lookups[0].changes();
            change();
            assert_ne!(lookups[1].changes(), seen);
            assert!(lookups[0].add(&record, &log, seen).is_none(), "what was asked may be over");
            assert!(tokens.get(&token.hash()).is_none());
        }
        assert!(tokens.sought.lock().is_empty());
        let lookup = tokens.look_up(record.id, record.origin);
        tokens.end(TokenId::generate());
        assert!(lookup.add(&record, &log, lookup.changes()).is_some(), "another token ended");
    }

    #[tokio::test]
    async fn a_first_use_that_is_given_up_ends_nothing() {
        let (store, token, record) = store().await;
        let log = store.log("shop").await.expect("it lives");
        let given_up = store.tokens.look_up(record.id, record.origin);
        let access = store.authorize(&token).await.expect("it answers").expect("it lives");
        drop(given_up);
        let given_up = store.tokens.look_up(record.id, record.origin);
        given_up.add(&record, &log, given_up.changes()).expect("it lives");
        drop(given_up);
        assert!(!access.ended().is_cancelled());
        assert!(store.tokens.sought.lock().is_empty());
        store.close().await;
    }
}
