//! What a method knows of its caller.

use eventodb_protocol::{ErrorCode, Limits, Right};

use crate::api::auth::{Administrator, Caller, Credentials, Manager};
use crate::api::errors::Failure;
use crate::api::state::AppState;
use crate::http::Exchange;
use crate::observe::Record;

/// The methods that change nothing in the store although they need another right than `read`.
const CHANGE_NOTHING: &[&str] = &["ns.list", "token.list", "sys.config"];

/// The caller of a method, and all that the method can reach.
pub(super) struct Context<'a> {
    pub(super) state: &'a AppState,
    pub(super) exchange: &'a Exchange,
    pub(super) credentials: &'a Credentials,
    pub(super) record: &'a mut Record,
}

/// A caller of whom nothing is known.
pub(super) struct Anybody;

/// What the table of methods asks for. Each of these has a [`Need`] of the same name.
impl Context<'_> {
    /// Anybody: the token is not looked at.
    pub(super) async fn nothing(&mut self) -> Result<Anybody, Failure> {
        Ok(Anybody)
    }

    /// The caller with this right, in its own namespace. An append is counted here, and refused if earlier ones wait for too
    /// long: before it is parsed.
    pub(super) async fn own(&mut self, right: Right) -> Result<Caller, Failure> {
        let caller = Caller::with(right, self.state, self.credentials, self.record).await?;
        caller.answers_for(self.exchange)?;
        self.check_mode(right)?;
        if right == Right::Write {
            self.state.appends.count();
            caller.log().check_age()?;
        }
        Ok(caller)
    }

    /// The caller with this right, in a namespace that its call names.
    pub(super) async fn named(&mut self, right: Right) -> Result<Manager, Failure> {
        let manager = Manager::with(right, self.state, self.credentials, self.record).await?;
        self.check_mode(right)?;
        Ok(manager)
    }

    /// The administrator.
    pub(super) async fn administrator(&mut self) -> Result<Administrator, Failure> {
        let administrator = Administrator::check(self.state, self.credentials, self.record).await?;
        self.check_mode(Right::Admin)?;
        Ok(administrator)
    }

    /// In read-only mode lets only those methods pass that change nothing.
    fn check_mode(&self, right: Right) -> Result<(), Failure> {
        if right == Right::Read || CHANGE_NOTHING.contains(&self.record.method.name) {
            return Ok(());
        }
        self.state.check_takes_changes()
    }
}

impl Context<'_> {
    /// The call is administrative, and `object` is what it changes. The audit has a line about how it ends.
    pub(super) fn administers(&mut self, object: &str) {
        self.record.administers(self.record.method.name, object);
    }

    /// No server of an earlier version, which does not know what is to be made, uses the same database.
    ///
    /// # Errors
    /// One does: the call may be repeated once it is replaced.
    pub(super) async fn check_servers(&self, made: &str) -> Result<(), Failure> {
        if !self.state.store.is_beside_older().await? {
            return Ok(());
        }
        let message = format!(
            "a server of a version before 0.2.0 uses this database and knows no {made}: replace it first; nothing was \
             changed"
        );
        Err(Failure::new(ErrorCode::BackendUnavailable, message))
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.state.config.limits
    }
}
