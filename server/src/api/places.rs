//! Bounds on what stays: subscriptions and waiting calls, of each namespace and with each token, and imports.
//!
//! The memory budget bounds what all of them take. These bounds leave something of it for other tenants, and for other
//! holders of tokens.

use std::sync::Arc;

use eventodb_protocol::Token;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{AtOnce, Bounds};
use crate::http::{Counted, Tally};

/// Places for what stays.
pub(crate) struct Places {
    subscriptions: Kind,
    waits: Kind,
    imports: Arc<Semaphore>,
    most_imports: usize,
}

/// The place of a subscription or of a waiting call, until it is dropped.
pub(crate) struct Place {
    _of_namespace: Counted<Arc<str>>,
    _of_token: Option<Counted<[u8; 32]>>,
}

/// The place of an import, until it is dropped.
pub(crate) struct ImportPlace {
    _permit: OwnedSemaphorePermit,
}

/// There are as many at once as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{most} {what} at once, as many as {flag} allows; nothing was done")]
pub(crate) struct Occupied {
    most: usize,
    what: &'static str,
    flag: &'static str,
}

impl Places {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        Self {
            subscriptions: Kind::new(
                bounds.subscriptions,
                ["subscriptions of one namespace", "subscriptions with one token"],
                ["--max-subscriptions-per-namespace", "--max-subscriptions-per-token"],
            ),
            waits: Kind::new(
                bounds.waits,
                ["calls of one namespace wait", "calls with one token wait"],
                ["--max-waits-per-namespace", "--max-waits-per-token"],
            ),
            imports: Arc::new(Semaphore::new(bounds.imports)),
            most_imports: bounds.imports,
        }
    }

    /// A place for a subscription.
    ///
    /// # Errors
    /// [`Occupied`]; so for the others.
    pub(crate) fn subscribe(&self, namespace: &Arc<str>, token: Option<&Token>) -> Result<Place, Occupied> {
        self.subscriptions.take(namespace, token)
    }

    /// A place for a call that waits.
    pub(crate) fn wait(&self, namespace: &Arc<str>, token: Option<&Token>) -> Result<Place, Occupied> {
        self.waits.take(namespace, token)
    }

    /// A place for an import.
    pub(crate) fn import(&self) -> Result<ImportPlace, Occupied> {
        let occupied = Occupied { most: self.most_imports, what: "imports run", flag: "--max-imports" };
        let permit = Arc::clone(&self.imports).try_acquire_owned().map_err(|_| occupied)?;
        Ok(ImportPlace { _permit: permit })
    }
}

/// Places of one kind.
struct Kind {
    namespaces: Arc<Tally<Arc<str>>>,
    /// By the hash of the token.
    tokens: Arc<Tally<[u8; 32]>>,
    of_namespace: Occupied,
    of_token: Occupied,
}

impl Kind {
    /// `what` and `flags` name the bound of a namespace, then that of a token.
    fn new(bound: AtOnce, what: [&'static str; 2], flags: [&'static str; 2]) -> Self {
        let AtOnce { per_namespace, per_token } = bound;
        Self {
            namespaces: Arc::default(),
            tokens: Arc::default(),
            of_namespace: Occupied { most: per_namespace, what: what[0], flag: flags[0] },
            of_token: Occupied { most: per_token, what: what[1], flag: flags[1] },
        }
    }

    fn take(&self, namespace: &Arc<str>, token: Option<&Token>) -> Result<Place, Occupied> {
        let of_namespace = self.namespaces.add(Arc::clone(namespace), |_| self.of_namespace.most);
        let of_namespace = of_namespace.ok_or(self.of_namespace)?;
        let of_token = token.map(|token| {
            let counted = self.tokens.add(*token.hash().as_bytes(), |_| self.of_token.most);
            counted.ok_or(self.of_token)
        });
        Ok(Place { _of_namespace: of_namespace, _of_token: of_token.transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(subscriptions: AtOnce, waits: AtOnce) -> Places {
        Places::new(&Bounds { subscriptions, waits, imports: 1, ..Bounds::default() })
    }

    #[test]
    fn a_namespace_and_a_token_have_as_many_places_as_they_may() {
        let few = AtOnce { per_namespace: 3, per_token: 2 };
        let places = places(few, AtOnce { per_namespace: 1, per_token: 1 });
        let [a, b] = ["a", "b"].map(Arc::<str>::from);
        let [first, second] = [(); 2].map(|()| Token::generate("a"));
        let mut held: Vec<_> = (0..2).map(|_| places.subscribe(&a, Some(&first)).expect("a place")).collect();
        let refused = places.subscribe(&a, Some(&first)).err().expect("the token has two");
        assert_eq!(refused.flag, "--max-subscriptions-per-token");
        held.push(places.subscribe(&a, Some(&second)).expect("the refused one took none"));
        let refused = places.subscribe(&a, None).err().expect("the namespace has three");
        assert_eq!(refused.flag, "--max-subscriptions-per-namespace");
        let message = "3 subscriptions of one namespace at once, as many as --max-subscriptions-per-namespace allows; \
                       nothing was done";
        assert_eq!(refused.to_string(), message);
        assert!(places.subscribe(&b, None).is_ok(), "another namespace");
        assert!(places.wait(&a, Some(&first)).is_ok(), "another kind");
        held.remove(0);
        assert!(places.subscribe(&a, Some(&first)).is_ok(), "one has ended");
    }

    #[test]
    fn imports_have_as_many_places_as_they_may() {
        let any = AtOnce { per_namespace: 1, per_token: 1 };
        let places = places(any, any);
        let held = places.import().expect("a place");
        assert_eq!(places.import().err().map(|refused| refused.flag), Some("--max-imports"));
        drop(held);
        assert!(places.import().is_ok());
    }
}
