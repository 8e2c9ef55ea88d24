//! Tokens that there were not a moment ago: of a client that goes on with a token that has ended.
//!
//! Where other servers make tokens, one that this server does not know is looked up in the database. The same one is
//! refused for a moment without another question.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use eventodb_protocol::token::TokenHash;
use foldhash::fast::RandomState;
use parking_lot::RwLock;

/// How long a token is refused so, from the question on.
const REFUSED_FOR: Duration = Duration::from_millis(250);
/// Tokens that are kept, at most.
const KEPT: usize = 1_024;

/// The tokens, and until when they are refused.
#[derive(Debug, Default)]
pub(super) struct Refused(RwLock<Kept>);

#[derive(Debug, Default)]
struct Kept {
    tokens: HashMap<TokenHash, Instant, RandomState>,
    /// Counts how often tokens may have been made.
    made: u64,
}

/// A question that is asked about a token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    at: Instant,
    made: u64,
}

impl Refused {
    /// Whether a token is refused; otherwise it is to be asked about.
    pub(super) fn question(&self, hash: &TokenHash) -> Option<Question> {
        let at = Instant::now();
        let kept = self.0.read();
        let is_refused = kept.tokens.get(hash).is_some_and(|&until| at < until);
        (!is_refused).then_some(Question { at, made: kept.made })
    }

    /// There was no such token when it was asked about.
    pub(super) fn add(&self, hash: TokenHash, Question { at, made }: Question) {
        let mut kept = self.0.write();
        if kept.made != made {
            return;
        }
        // Whoever guesses shows none of them twice: nothing is lost with them.
        if kept.tokens.len() >= KEPT {
            kept.tokens.clear();
        }
        kept.tokens.insert(hash, at + REFUSED_FOR);
    }

    /// Tokens may have been made: all are asked about.
    pub(super) fn forget(&self) {
        let mut kept = self.0.write();
        kept.tokens.clear();
        kept.made += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: usize) -> TokenHash {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        TokenHash::from_bytes(bytes)
    }

    fn refuse(refused: &Refused, hash: TokenHash) {
        let question = refused.question(&hash).expect("it is asked about");
        refused.add(hash, question);
    }

    #[test]
    fn a_token_that_there_was_not_is_refused_until_one_is_made() {
        let refused = Refused::default();
        refuse(&refused, hash(1));
        assert!(refused.question(&hash(1)).is_none() && refused.question(&hash(2)).is_some());
        refused.forget();
        assert!(refused.question(&hash(1)).is_some());
    }

    #[test]
    fn an_answer_from_before_a_token_was_made_refuses_nothing() {
        let refused = Refused::default();
        let question = refused.question(&hash(1)).expect("nothing is known");
        refused.forget();
        refused.add(hash(1), question);
        assert!(refused.question(&hash(1)).is_some());
    }

    #[test]
    fn a_token_is_asked_about_again_after_a_moment() {
        let refused = Refused::default();
        let question = refused.question(&hash(1)).expect("nothing is known");
        refused.add(hash(1), Question { at: question.at - REFUSED_FOR, ..question });
        assert!(refused.question(&hash(1)).is_some());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let refused = Refused::default();
        for number in 0..3 * KEPT {
            refuse(&refused, hash(number));
            assert!(refused.question(&hash(number)).is_none() && refused.0.read().tokens.len() <= KEPT);
        }
    }
}
