//! What a row was to reach, and whether it did.

use serde::{Deserialize, Serialize};

use super::Row;
use super::number::plain;

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

/// One target of a row, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// What was to be reached.
    pub(super) target: String,
    /// Whether it was, in one word.
    pub(super) verdict: &'static str,
    /// What came of it and what it was held against, where that is known.
    pub(super) detail: String,
}

impl Target {
    /// Whether it was reached, in one word.
    pub(super) fn verdict(&self) -> &'static str {
        verdict(self.held)
    }
}

impl Row {
    /// Its targets one by one, where it has them so; else as a whole.
    pub(super) fn outcomes(&self) -> Vec<Outcome> {
        if self.verdicts.is_empty() {
            let whole = |target: &Target| Outcome {
                target: target.text.clone(),
                verdict: target.verdict(),
                detail: String::new(),
            };
            return self.target.iter().map(whole).collect();
        }
        let single = |one: &crate::target::Verdict| {
            let smaller = if one.is_full { "" } else { " in a smaller run" };
            Outcome {
                target: one.target.clone(),
                verdict: verdict(one.holds),
                detail: format!("{} of {}{smaller}", plain(one.value), plain(one.limit)),
            }
        };
        self.verdicts.iter().map(single).collect()
    }

    /// Its figures that are no latencies, in words.
    pub(super) fn readings_text(&self) -> String {
        let texts: Vec<String> =
            self.readings.iter().map(|(name, value)| format!("{name} {}", plain(*value))).collect();
        texts.join(", ")
    }
}

fn verdict(held: bool) -> &'static str {
    if held { "held" } else { "missed" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Verdict;

    #[test]
    fn a_row_with_single_verdicts_tells_each() {
        let target = Target { text: "both".into(), held: false, ..Target::default() };
        let mut row = Row { target: Some(target), ..Row::default() };
        assert_eq!(row.outcomes()[0].target, "both");
        let verdict = Verdict {
            target: "p99 ≤ 8 ms".into(),
            figure: "p99".into(),
            value: 9.413,
            limit: 8.0,
            is_upper: true,
            holds: false,
            is_full: false,
        };
        row.verdicts = vec![verdict.clone(), Verdict { holds: true, is_full: true, value: 17_157.2, ..verdict }];
        let outcomes = row.outcomes();
        assert_eq!((outcomes[0].verdict, outcomes[0].detail.as_str()), ("missed", "9.41 of 8 in a smaller run"));
        assert_eq!((outcomes[1].verdict, outcomes[1].detail.as_str()), ("held", "17,157 of 8"));
    }
}
