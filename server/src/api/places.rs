//! Bounds on what stays: subscriptions and waiting calls, of each namespace and with each token, and imports.
//!
//! The memory budget bounds what all of them take. These bounds leave something of it for other tenants, and for other
//! holders of tokens.

use std::sync::Arc;

use eventodb_protocol::Token;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::{Counted, Tally};
use crate::live::AtOnce;

/// Places for what stays.
pub(crate) struct Places {
    subscriptions: Kind,
    waits: Kind,
    imports: Arc<Semaphore>,
    imports_of: Arc<Tally<Arc<str>>>,
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
    _of_namespace: Counted<Arc<str>>,
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
    /// No place is taken. The most imports are given here, because they do not change.
    pub(crate) fn new(imports: usize) -> Self {
        Self {
            subscriptions: Kind::new(
                ["subscriptions of one namespace", "subscriptions with one token"],
                ["--max-subscriptions-per-namespace", "--max-subscriptions-per-token"],
            ),
            waits: Kind::new(
                ["calls of one namespace wait", "calls with one token wait"],
                ["--max-waits-per-namespace", "--max-waits-per-token"],
            ),
            imports: Arc::new(Semaphore::new(imports)),
            imports_of: Arc::default(),
            most_imports: imports,
        }
    }

    /// A place for a subscription, if there are fewer than `most`.
    ///
    /// # Errors
    /// [`Occupied`]; so for the others.
    pub(crate) fn subscribe(
        &self,
        most: AtOnce,
        namespace: &Arc<str>,
        token: Option<&Token>,
    ) -> Result<Place, Occupied> {
        self.subscriptions.take(most, namespace, token)
    }

    /// A place for a call that waits.
    pub(crate) fn wait(&self, most: AtOnce, namespace: &Arc<str>, token: Option<&Token>) -> Result<Place, Occupied> {
        self.waits.take(most, namespace, token)
    }

    /// How many subscriptions there are, and how many calls wait.
    pub(crate) fn taken(&self) -> (usize, usize) {
        (self.subscriptions.namespaces.all(), self.waits.namespaces.all())
    }

    /// A place for an import. One namespace has half of them at most, so that others can import, too.
    pub(crate) fn import(&self, namespace: &Arc<str>) -> Result<ImportPlace, Occupied> {
        let occupied = |most, what| Occupied { most, what, flag: "--max-imports" };
        let half = self.most_imports.div_ceil(2);
        let of_namespace = self.imports_of.add(Arc::clone(namespace), |_| half);
        let of_namespace = of_namespace.ok_or_else(|| occupied(half, "imports of one namespace run"))?;
        let permit = Arc::clone(&self.imports).try_acquire_owned();
        let permit = permit.map_err(|_| occupied(self.most_imports, "imports run"))?;
        Ok(ImportPlace { _permit: permit, _of_namespace: of_namespace })
    }
}

/// Places of one kind.
struct Kind {
    namespaces: Arc<Tally<Arc<str>>>,
    /// By the hash of the token.
    tokens: Arc<Tally<[u8; 32]>>,
    /// What a namespace may have, and the flag for it.
    of_namespace: (&'static str, &'static str),
    of_token: (&'static str, &'static str),
}

impl Kind {
    /// `what` and `flags` name the bound of a namespace, then that of a token.
    fn new(what: [&'static str; 2], flags: [&'static str; 2]) -> Self {
        Self {
            namespaces: Arc::default(),
            tokens: Arc::default(),
            of_namespace: (what[0], flags[0]),
            of_token: (what[1], flags[1]),
        }
    }

    fn take(&self, most: AtOnce, namespace: &Arc<str>, token: Option<&Token>) -> Result<Place, Occupied> {
        let occupied = |most, (what, flag)| Occupied { most, what, flag };
        let of_namespace = self.namespaces.add(Arc::clone(namespace), |_| most.per_namespace);
        let of_namespace = of_namespace.ok_or_else(|| occupied(most.per_namespace, self.of_namespace))?;
        let of_token = token.map(|token| {
            let counted = self.tokens.add(*token.hash().as_bytes(), |_| most.per_token);
            counted.ok_or_else(|| occupied(most.per_token, self.of_token))
        });
        Ok(Place { _of_namespace: of_namespace, _of_token: of_token.transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_and_a_token_have_as_many_places_as_they_may() {
        let few = AtOnce { per_namespace: 3, per_token: 2 };
        let one = AtOnce { per_namespace: 1, per_token: 1 };
        let places = Places::new(1);
        let [a, b] = ["a", "b"].map(Arc::<str>::from);
        let [first, second] = [(); 2].map(|()| Token::generate("a"));
        let mut held: Vec<_> = (0..2).map(|_| places.subscribe(few, &a, Some(&first)).expect("a place")).collect();
        let refused = places.subscribe(few, &a, Some(&first)).err().expect("the token has two");
        assert_eq!(refused.flag, "--max-subscriptions-per-token");
        held.push(places.subscribe(few, &a, Some(&second)).expect("the refused one took none"));
        let refused = places.subscribe(few, &a, None).err().expect("the namespace has three");
        assert_eq!(refused.flag, "--max-subscriptions-per-namespace");
        let message = "3 subscriptions of one namespace at once, as many as --max-subscriptions-per-namespace allows; \
                       nothing was done";
        assert_eq!(refused.to_string(), message);
        assert!(places.subscribe(few, &b, None).is_ok(), "another namespace");
        assert!(places.wait(one, &a, Some(&first)).is_ok(), "another kind");
        held.remove(0);
        assert!(places.subscribe(few, &a, Some(&first)).is_ok(), "one has ended");
        let none = AtOnce { per_namespace: 0, ..few };
        assert!(places.subscribe(none, &a, None).is_err(), "the bound has changed");
    }

    #[test]
    fn imports_have_as_many_places_as_they_may() {
        let places = Places::new(3);
        let [a, b] = ["a", "b"].map(Arc::<str>::from);
        let refusal = |namespace| places.import(namespace).err().map(|refused| refused.to_string());
        let mut held = vec![places.import(&a).expect("a place"), places.import(&a).expect("a place")];
        let half = "2 imports of one namespace run at once, as many as --max-imports allows; nothing was done";
        assert_eq!(refusal(&a).as_deref(), Some(half));
        held.push(places.import(&b).expect("another namespace has a place"));
        let all = "3 imports run at once, as many as --max-imports allows; nothing was done";
        assert_eq!(refusal(&b).as_deref(), Some(all));
        held.remove(0);
        assert_eq!(refusal(&a), None);
        assert!(Places::new(1).import(&a).is_ok());
    }
}
