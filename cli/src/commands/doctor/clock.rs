//! What depends on the time: the last message, and tokens that are about to expire.

use eventodb_protocol::Timestamp;

use super::finding::{Finding, span};

/// Microseconds by which a last message may lie ahead because the clocks of two machines differ.
const CLOCKS_DIFFER: i64 = 60_000_000;
/// Microseconds in which a token's end is told before it comes, and after it came.
const SOON: (i64, i64) = (7 * DAY, DAY);
/// A day in microseconds.
const DAY: i64 = 86_400_000_000;

/// Between these times the end of a token is told.
pub(super) fn ends_that_matter(now: Timestamp) -> (Timestamp, Timestamp) {
    let at = |offset: i64| Timestamp::from_micros(now.as_micros().saturating_add(offset));
    (at(-SOON.1), at(SOON.0))
}

/// The last message of a log lies ahead of the clock. `log` is what the log is called.
pub(super) fn behind_log(last: Timestamp, log: &str, now: Timestamp) -> Option<Finding> {
    let ahead = last.as_micros().saturating_sub(now.as_micros());
    (ahead > CLOCKS_DIFFER).then(|| {
        Finding::error(
            "CLOCK_BEHIND_LOG",
            format!("the last message of {log} is of {last}, {} after this machine's clock", span(seconds(ahead))),
            "The times of a log never go back: each new message gets that time until the clock has caught up.",
            "Set the clock (timedatectl, chrony). If it is right now and was ahead then, the times are right again once it \
             has caught up; nothing is lost.",
        )
    })
}

/// A token that ends soon, or that has ended.
pub(super) fn token_ends(id: &str, namespace: &str, end: Timestamp, now: Timestamp) -> Finding {
    let left = end.as_micros().saturating_sub(now.as_micros());
    let when = match left {
        ..=0 => format!("expired {} ago", span(seconds(-left))),
        _ => format!("expires in {}, at {end}", span(seconds(left))),
    };
    Finding::warning(
        "TOKEN_ENDS",
        format!("the token {id} of the namespace {namespace} {when}"),
        "Whoever still uses it is refused from then on.",
        format!("Give its users another (`eventodb token rotate {id}`), or revoke it if nobody uses it."),
    )
}

fn seconds(micros: i64) -> u64 {
    micros.unsigned_abs() / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_may_be_ahead_by_as_much_as_clocks_differ() {
        let now = Timestamp::now();
        let later = |micros: i64| Timestamp::from_micros(now.as_micros() + micros);
        assert_eq!(behind_log(later(CLOCKS_DIFFER), "x", now), None);
        let told = behind_log(later(3_600_000_000), "namespace shop", now).expect("it is an hour");
        assert!(told.what.contains("namespace shop") && told.what.contains("60 min"), "{}", told.what);
    }

    #[test]
    fn a_token_is_told_a_week_before_its_end_and_a_day_after() {
        let now = Timestamp::now();
        let (from, to) = ends_that_matter(now);
        assert_eq!((now.as_micros() - from.as_micros(), to.as_micros() - now.as_micros()), (DAY, 7 * DAY));
        assert!(token_ends("1", "shop", to, now).what.contains("expires in 7 days"));
        assert!(token_ends("1", "shop", from, now).what.contains("expired 24 h ago"));
    }
}
