//! Which group a call means.
//!
//! The right to touch a group depends on what the group reads. It is checked before the call, and the group may be deleted
//! and another one created under its name in between. So the call carries what was checked, and is refused if it meets
//! another group.

use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::decider::Decider;
use super::slot::{Decided, Slot};
use crate::error::Result;
use crate::groups::{Allowed, Group, Moment, Refusal};

/// The name of a group, and which groups of this name the caller may touch.
#[derive(Clone, Debug)]
pub struct Named {
    name: Arc<str>,
    allowed: Allowed,
}

/// The group that a call means, on this server.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) slot: Arc<Slot>,
    pub(super) allowed: Allowed,
}

impl Named {
    /// A group of this name.
    pub fn new(name: &str, allowed: Allowed) -> Self {
        Self { name: name.into(), allowed }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn into_parts(self) -> (Arc<str>, Allowed) {
        (self.name, self.allowed)
    }
}

impl From<&str> for Named {
    fn from(name: &str) -> Self {
        Self::new(name, Allowed::Any)
    }
}

impl From<&String> for Named {
    fn from(name: &String) -> Self {
        Self::from(&**name)
    }
}

impl From<&Self> for Named {
    fn from(named: &Self) -> Self {
        named.clone()
    }
}

impl Deref for Target {
    type Target = Arc<Slot>;

    fn deref(&self) -> &Arc<Slot> {
        &self.slot
    }
}

impl Target {
    /// Decides a call that names no member and needs no token.
    ///
    /// # Errors
    /// As [`Slot::decide`].
    pub(super) fn decide<T: Send + 'static, F>(
        &self,
        decider: &Arc<Decider>,
        decide: F,
    ) -> impl Future<Output = Result<(T, Decided)>> + Send + use<T, F>
    where
        F: FnMut(&mut Group, &mut Moment) -> Result<T, Refusal> + Send + 'static,
    {
        self.decide_for(decider, Vec::new(), None, decide)
    }

    /// Decides a call. Members' ids and instances that it names are in `gone`.
    ///
    /// # Errors
    /// As [`Slot::decide`].
    pub(super) fn decide_for<T: Send + 'static, F>(
        &self,
        decider: &Arc<Decider>,
        gone: Vec<Arc<str>>,
        token: Option<String>,
        decide: F,
    ) -> impl Future<Output = Result<(T, Decided)>> + Send + use<T, F>
    where
        F: FnMut(&mut Group, &mut Moment) -> Result<T, Refusal> + Send + 'static,
    {
        self.slot.decide(decider, self.allowed.clone(), gone, token, None, decide)
    }

    /// Decides a heartbeat of the member with this id, which may be decided a little later, together with those of other
    /// groups.
    ///
    /// # Errors
    /// As [`Slot::decide`].
    pub(super) fn decide_soon<T: Send + 'static, F>(
        &self,
        decider: &Arc<Decider>,
        member: Arc<str>,
        decide: F,
    ) -> impl Future<Output = Result<(T, Decided)>> + Send + use<T, F>
    where
        F: FnMut(&mut Group, &mut Moment) -> Result<T, Refusal> + Send + 'static,
    {
        self.slot.decide_soon(decider, self.allowed.clone(), member, decide)
    }

    /// The same for a call that wants to know `ahead` what is being stored.
    ///
    /// # Errors
    /// As [`Slot::decide`].
    pub(super) fn decide_ahead<T: Send + 'static, F>(
        &self,
        decider: &Arc<Decider>,
        gone: Vec<Arc<str>>,
        ahead: oneshot::Sender<Decided>,
        decide: F,
    ) -> impl Future<Output = Result<(T, Decided)>> + Send + use<T, F>
    where
        F: FnMut(&mut Group, &mut Moment) -> Result<T, Refusal> + Send + 'static,
    {
        self.slot.decide(decider, self.allowed.clone(), gone, None, Some(ahead), decide)
    }
}
