//! The same request over and over.

use crate::load::Lane;
use crate::wire::{Reply, Template};

/// A lane that sends one request.
#[derive(Clone, Debug)]
pub(crate) struct Constant(pub(crate) Template);

impl Lane for Constant {
    fn request(&mut self) -> &[u8] {
        self.0.bytes()
    }

    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64> {
        reply.success().map(|_| 1)
    }
}
