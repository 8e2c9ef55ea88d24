//! The statistics as a whole: their memory, and that all of them count the same.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use eventodb_protocol::ErrorCode;
use http::StatusCode;

use super::*;
use crate::http::RequestId;
use crate::observe::Method;

const NAMES: [&str; 80] = ["stream.write"; 80];

fn performance() -> Performance {
    Performance::new(&NAMES)
}

/// Counts a request that ends at this time.
fn count(performance: &Performance, method: usize, namespace: Option<&Arc<str>>, ended: Duration, duration: Duration) {
    let id = RequestId::Clients("i".repeat(128).into());
    let started = performance.started + ended - duration;
    let mut record = Record::new(id, IpAddr::V4(Ipv4Addr::LOCALHOST), Method::new(NAMES[method], method), started);
    record.namespace = namespace.cloned();
    let code = Some(ErrorCode::BackendError);
    let (status, wait) = (StatusCode::INTERNAL_SERVER_ERROR, Duration::ZERO);
    let outcome = Outcome { status, code, shed: None, duration, wait };
    let is_slow = duration > Duration::from_millis(100);
    if is_slow {
        performance.keep_slow(&record, &outcome);
    }
    performance.add(&[Ended { method: record.method, namespace: record.namespace, started, outcome, is_slow }]);
}

#[test]
fn all_of_it_has_a_bound_whatever_the_number_of_namespaces_and_methods() {
    let performance = performance();
    let bytes =
        || performance.periods.lock().bytes() + performance.patterns.lock().bytes() + performance.slow.lock().bytes();
    let empty = bytes();
    for namespace in 0..10_000_u64 {
        let name: Arc<str> = format!("{namespace:0>64}").into();
        let methods = if namespace < 200 { NAMES.len() } else { 1 };
        for method in 0..methods {
            // Most seconds of a day are over in a second of this test.
            let ended = Duration::from_secs(1 + namespace * 9);
            count(&performance, method, Some(&name), ended, Duration::from_millis(200));
        }
    }
    (0..NAMES.len()).for_each(|method| count(&performance, method, None, Duration::ZERO, Duration::ZERO));
    for second in 0..2 * 3_600 {
        count(&performance, 0, None, Duration::from_secs(100_000 + second), Duration::from_secs(1));
    }
    let full = bytes();
    assert!(full < MOST_BYTES, "{full} bytes, of which {empty} when it is empty");
    performance.reset();
    assert!(bytes() < empty + 1_000, "a reset gives the memory back");
}

#[test]
fn periods_and_patterns_count_the_same_until_a_reset() {
    let performance = performance();
    let (name, time) = (Arc::from("shop"), Duration::from_millis(1_500));
    count(&performance, 1, Some(&name), time, Duration::from_millis(1));
    count(&performance, 2, Some(&name), time, Duration::from_millis(101));
    count(&performance, 2, None, time, Duration::from_millis(300));
    let totals = || performance.patterns().iter().map(|pattern| pattern.statistics.total).sum::<u64>();
    let all = performance.periods().process;
    assert_eq!((all.total, all.failed, all.slow, totals()), (3, 3, 2, 3));
    let (recent, top) = performance.slow();
    let durations = |of: &[SlowRequest]| of.iter().map(|slow| slow.duration_ms).collect::<Vec<_>>();
    assert_eq!((durations(&recent), durations(&top)), (vec![300.0, 101.0], vec![300.0, 101.0]));
    assert_eq!(performance.patterns()[0].statistics.max_ms, 300.0, "what took most time comes first");
    performance.reset();
    assert_eq!((performance.periods().process.total, totals(), performance.slow().0.len()), (0, 0, 0));
}

#[test]
fn the_slowest_stay_and_the_recent_ones_go() {
    let performance = performance();
    for millis in (200..600).rev() {
        count(&performance, 0, None, Duration::from_secs(2), Duration::from_millis(millis));
    }
    let (recent, top) = performance.slow();
    assert_eq!((recent.len(), recent[0].duration_ms, recent[99].duration_ms), (100, 200.0, 299.0));
    assert_eq!((top.len(), top[0].duration_ms, top[49].duration_ms), (50, 599.0, 550.0));
}
