//! How many there are of each address.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::addresses::Subnet;

/// A number for each address that has any.
#[derive(Default)]
pub(super) struct Tally(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    of: HashMap<Subnet, usize>,
    all: usize,
}

/// One of an address, until it is dropped.
pub(super) struct Counted {
    tally: Arc<Tally>,
    address: Subnet,
}

impl Tally {
    /// Counts one more of an address, unless it has as many as `most` says for the number of all.
    pub(super) fn add(self: &Arc<Self>, address: Subnet, most: impl FnOnce(usize) -> usize) -> Option<Counted> {
        let counts = &mut *self.0.lock();
        let most = most(counts.all);
        let own = counts.of.get(&address).copied().unwrap_or(0);
        if own >= most {
            return None;
        }
        counts.of.insert(address, own + 1);
        counts.all += 1;
        Some(Counted { tally: Arc::clone(self), address })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let counts = &mut *self.tally.0.lock();
        counts.all -= 1;
        if let Some(own) = counts.of.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                counts.of.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn a_crowd_of_one_address_leaves_places_for_others() {
        let tally = Arc::new(Tally::default());
        let [crowd, other] = [1, 2].map(|last| Subnet::of(IpAddr::from([10, 0, 0, last])));
        let fair = |all| 512 - all;
        let held: Vec<_> = std::iter::from_fn(|| tally.add(crowd, fair)).collect();
        assert_eq!(held.len(), 512 / 2);
        let guest = tally.add(other, fair);
        assert!(guest.is_some());
        drop((held, guest));
        let counts = tally.0.lock();
        assert!(counts.of.is_empty() && counts.all == 0);
    }
}
