//! What a row was to reach, and whether it did.

use serde::{Deserialize, Serialize};

/// A target, as the row carries it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Target {
    /// As it is told: `>= 0.55 x noop`.
    pub text: String,
    /// The share of a ceiling that it demands, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Whether the row reached it.
    pub held: bool,
}

impl Target {
    /// Whether it was reached, in one word.
    pub(crate) fn verdict(&self) -> &'static str {
        if self.held { "held" } else { "missed" }
    }
}
