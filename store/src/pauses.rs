//! Named points at which tests make a log pause, so that every hand-over is taken all the time.

use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

/// Pauses that are drawn from a seed. Without a seed, which only tests give, there are none.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    random: Option<Mutex<SmallRng>>,
}

impl Pauses {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self { random: seed.map(|seed| Mutex::new(SmallRng::seed_from_u64(seed))) }
    }

    /// Lets other tasks run, or waits a little, or does neither, as drawn. The point's name is for the reader of the
    /// code.
    pub(crate) async fn at(&self, _point: &'static str) {
        let Some(random) = &self.random else { return };
        let draw = random.lock().random_range(0..8u32);
        match draw {
            0..4 => {}
            4..7 => tokio::task::yield_now().await,
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}
