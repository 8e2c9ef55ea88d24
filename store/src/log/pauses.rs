//! Named points at which tests make a log pause, so that every hand-over is taken all the time.

use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

/// Pauses drawn from a seed; none where there is no seed, which is always so outside of tests.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    random: Option<Mutex<SmallRng>>,
}

impl Pauses {
    pub(super) fn new(seed: Option<u64>) -> Self {
        Self { random: seed.map(|seed| Mutex::new(SmallRng::seed_from_u64(seed))) }
    }

    /// Perhaps lets others run, perhaps waits a little. The point's name is for the reader.
    pub(super) async fn at(&self, _point: &'static str) {
        let Some(random) = &self.random else { return };
        let draw = random.lock().random_range(0..8u32);
        match draw {
            0..4 => {}
            4..7 => tokio::task::yield_now().await,
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}
