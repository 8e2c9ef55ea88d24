//! A call that is traced, because the header `traceparent` of W3C Trace Context says so: it is part of a span of its caller.

use std::sync::Arc;

use eventodb_store::log::{Stages, Times};
use http::{HeaderMap, HeaderName};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Bytes of the header in version 00: `00-`, a trace, `-`, a span, `-`, flags.
const LENGTH: usize = 55;

/// A call that is traced.
#[derive(Clone)]
pub(crate) struct Trace(Box<Traced>);

#[derive(Clone)]
struct Traced {
    parent: Parent,
    stages: Arc<Stages>,
}

/// The span of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace: u128,
    pub(super) span: u64,
    /// Whether the caller keeps its own span.
    pub(super) is_sampled: bool,
}

impl Trace {
    /// The trace of a call with this head, if its caller keeps the span that it names.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let parent = of(headers).filter(|parent| parent.is_sampled)?;
        Some(Self(Box::new(Traced { parent, stages: Arc::default() })))
    }

    /// What the store tells the stages of an append to.
    pub(crate) fn stages(&self) -> Arc<Stages> {
        Arc::clone(&self.0.stages)
    }

    /// When its append passed each stage, if it is one.
    pub(super) fn times(&self) -> Times {
        self.0.stages.times()
    }

    pub(super) fn parent(&self) -> Parent {
        self.0.parent
    }
}

/// The caller's span, if the head of the request names one. A header that is wrong is ignored, as the specification says.
pub(super) fn of(headers: &HeaderMap) -> Option<Parent> {
    let mut all = headers.get_all(TRACEPARENT).iter();
    let (first, None) = (all.next()?, all.next()) else { return None };
    parse(first.to_str().ok()?)
}

fn parse(text: &str) -> Option<Parent> {
    let (known, rest) = text.split_at_checked(LENGTH)?;
    let mut parts = known.split('-');
    let [version, trace, span, flags] = [(); 4].map(|()| parts.next());
    let (version, flags) = (hex(version?, 2)?, hex(flags?, 2)?);
    // Later versions may have more behind a dash.
    let is_whole = if version == 0 { rest.is_empty() } else { rest.is_empty() || rest.starts_with('-') };
    if version == 0xff || !is_whole || parts.next().is_some() {
        return None;
    }
    let (trace, span) = (hex(trace?, 32)?, u64::try_from(hex(span?, 16)?).ok()?);
    (trace != 0 && span != 0).then_some(Parent { trace, span, is_sampled: flags & 1 == 1 })
}

/// A number of exactly this many lower-case digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_hex = text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then(|| u128::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn the_header_of_the_specification_is_understood() {
        let parent =
            Parent { trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, span: 0x00f0_67aa_0ba9_02b7, is_sampled: true };
        assert_eq!(parse(&format!("00-{TRACE}-{SPAN}-01")), Some(parent));
        assert_eq!(parse(&format!("00-{TRACE}-{SPAN}-03")), Some(parent));
        assert_eq!(parse(&format!("00-{TRACE}-{SPAN}-00")), Some(Parent { is_sampled: false, ..parent }));
        assert_eq!(parse(&format!("cc-{TRACE}-{SPAN}-01-what-will-be")), Some(parent), "a later version");
    }

    #[test]
    fn other_headers_are_ignored() {
        let none = ["0".repeat(32), "0".repeat(16)];
        for wrong in [
            String::new(),
            "é".repeat(40),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("cc-{TRACE}-{SPAN}-01.more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0x-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{}-{SPAN}-01", none[0]),
            format!("00-{TRACE}-{}-01", none[1]),
            format!("00-{TRACE}{SPAN}--01"),
            format!("00-+{}-{SPAN}-01", &TRACE[1..]),
        ] {
            assert_eq!(parse(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_call_has_one_parent_or_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(of(&headers), None);
        let value = format!("00-{TRACE}-{SPAN}-01");
        headers.append(TRACEPARENT, value.parse().expect("ASCII"));
        assert_eq!(of(&headers), parse(&value));
        headers.append(TRACEPARENT, value.parse().expect("ASCII"));
        assert_eq!(of(&headers), None);
    }
}
