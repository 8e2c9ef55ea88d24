//! One request and its reply, as they are counted to their connection and to their sender's namespace.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use super::budget::{Account, Exhausted, Holder, Permit, REQUEST};
use super::linger::Linger;
use super::request_id::RequestId;
use super::vitals::{Order, Phase, Vitals};

/// A request in progress. It ends when this is dropped, which is when its reply is sent.
pub(crate) struct Exchange {
    vitals: Arc<Vitals>,
    id: RequestId,
    /// Of the valid token that came with the request; `None` if it is that of the connection.
    namespace: OnceLock<Option<Arc<str>>>,
    /// Where the request's memory is counted.
    account: OnceLock<Account>,
    /// What the request itself takes, where a connection has many.
    permit: OnceLock<Permit>,
}

impl Exchange {
    /// A request begins.
    pub(super) fn begin(vitals: &Arc<Vitals>, id: RequestId) -> Arc<Self> {
        vitals.begin();
        Arc::new(Self {
            vitals: Arc::clone(vitals),
            id,
            namespace: OnceLock::new(),
            account: OnceLock::new(),
            permit: OnceLock::new(),
        })
    }

    /// The connection by which the request came.
    pub(super) fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    /// The request's id.
    pub(crate) fn id(&self) -> &RequestId {
        &self.id
    }

    /// Reads the rest of the request's body after a refusal.
    pub(crate) fn linger(&self) -> Linger {
        Linger(Arc::clone(&self.vitals))
    }

    /// The reply goes on until the client leaves.
    pub(super) fn goes_on(&self) {
        if !self.is_http2() {
            self.vitals.set_phase(Phase::Open);
        }
    }

    /// Whether the request is one of many that its connection may have at the same time.
    pub(crate) fn is_http2(&self) -> bool {
        self.vitals.is_http2()
    }

    /// Whether the connection is to end, so that no new work is begun on it.
    pub(crate) fn is_draining(&self) -> bool {
        self.vitals.told() != Order::None
    }

    /// The request waits for its body and has shown no valid token, or no longer does so.
    pub(crate) fn set_stranger(&self, is_stranger: bool) {
        if !self.is_http2() {
            self.vitals.set_phase(if is_stranger { Phase::Stranger } else { Phase::Answering });
        }
    }

    /// The request has shown a token of this namespace, which is valid until `end`, and is counted to the namespace from
    /// now on. So is its connection, if no other token came by it before.
    ///
    /// # Errors
    /// [`Exhausted`] if the namespace has no memory left for the connection.
    pub(crate) fn belongs_to(&self, namespace: &Arc<str>, end: &CancellationToken) -> Result<(), Exhausted> {
        if !self.vitals.has_token() {
            self.vitals.belong_to(namespace)?;
        }
        self.vitals.vouch(end);
        let is_connections = self.vitals.namespace().is_some_and(|own| own == namespace);
        self.namespace.get_or_init(|| (!is_connections).then(|| Arc::clone(namespace)));
        Ok(())
    }

    /// Where the request's memory is counted: with strangers, unless [`Self::belongs_to`] was called before.
    pub(crate) fn account(&self) -> &Account {
        self.account.get_or_init(|| {
            let namespace = self.namespace.get().and_then(|own| own.as_ref().or_else(|| self.vitals.namespace()));
            self.vitals.account(namespace.cloned().map_or(Holder::Stranger, Holder::Namespace))
        })
    }

    /// Takes memory for the request itself, where its connection's does not cover it.
    ///
    /// # Errors
    /// [`Exhausted`].
    pub(crate) fn admit(&self) -> Result<(), Exhausted> {
        if self.is_http2() && self.permit.get().is_none() {
            let _ = self.permit.set(self.account().take(REQUEST)?);
        }
        Ok(())
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.vitals.end();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::super::budget::{Budget, CONNECTION};
    use super::*;

    fn vitals() -> Arc<Vitals> {
        Arc::new(Vitals::new(&Arc::new(Budget::new(1024)), None))
    }

    fn begin(vitals: &Arc<Vitals>) -> Arc<Exchange> {
        Exchange::begin(vitals, RequestId::new())
    }

    #[test]
    fn the_end_is_shown_once_the_reply_is_sent() {
        let vitals = vitals();
        let exchange = begin(&vitals);
        assert!(vitals.hide_end());
        drop(exchange);
        assert_eq!(vitals.phase(), Phase::Finishing);
        assert!(!vitals.shows_end());
        vitals.set_phase(Phase::Waiting);
        assert!(vitals.shows_end());
    }

    #[test]
    fn the_end_is_shown_once_more_of_the_body_is_missed() {
        let vitals = vitals();
        let _exchange = begin(&vitals);
        vitals.misses_body(Waker::noop());
        assert!(!vitals.shows_end(), "it may still come");
        assert!(vitals.hide_end());
        vitals.misses_body(Waker::noop());
        assert!(vitals.shows_end());
    }

    #[test]
    fn a_subscription_ends_with_its_client() {
        let vitals = vitals();
        begin(&vitals).goes_on();
        assert!(!vitals.shows_end(), "it has ended");
        let exchange = begin(&vitals);
        exchange.goes_on();
        assert!(vitals.shows_end());
    }

    #[test]
    fn a_connection_is_counted_to_the_namespace_of_its_first_token() {
        let budget = Arc::new(Budget::new(256 * 1024));
        let connection = || budget.account(&Arc::default(), Holder::Connection).take(CONNECTION);
        let [first, second] = ["a", "b"].map(Arc::<str>::from);
        let mut all = Vec::new();
        while let Ok(memory) = connection() {
            all.push(Arc::new(Vitals::new(&budget, Some(memory))));
        }
        assert_eq!(all.len(), 4, "those without a token have half");
        let end = CancellationToken::new();
        begin(&all[0]).belongs_to(&first, &end).expect("there is room");
        begin(&all[0]).belongs_to(&second, &end).expect("it is the first one's");
        let another = budget.account(&Arc::default(), Holder::Connection).take(CONNECTION / 2);
        assert!(another.is_ok(), "others may come");
        drop(another);
        for connection in &all[1..3] {
            begin(connection).belongs_to(&first, &end).expect("there is room");
        }
        assert!(begin(&all[3]).belongs_to(&first, &end).is_err(), "it would have more than is left for others");
        assert!(!all[3].has_token());
    }

    #[test]
    fn who_has_no_living_token_and_takes_no_reply_may_be_cut_for_others() {
        let vitals = vitals();
        let exchange = begin(&vitals);
        assert!(!vitals.is_expendable(), "it is being answered");
        vitals.sending.block();
        assert!(vitals.is_expendable());
        vitals.sending.advance();
        vitals.set_http2();
        assert!(vitals.is_expendable(), "each reply has a pace of its own");
        let [first, second] = [(); 2].map(|()| CancellationToken::new());
        let shows = |end| exchange.belongs_to(&"a".into(), end).expect("it takes nothing");
        shows(&first);
        assert!(!vitals.is_expendable());
        shows(&second);
        second.cancel();
        assert!(!vitals.is_expendable(), "the first one lives");
        first.cancel();
        assert!(vitals.is_expendable(), "both have ended");
        shows(&CancellationToken::new());
        assert!(!vitals.is_expendable(), "a later one lives");
    }
}
