//! JSON text that is checked but never parsed into values.
//!
//! `data` and `metadata` must come back byte for byte: the digits of numbers, the escapes of strings, the order of
//! keys, repeated keys. A body is therefore checked once for being well-formed and its white space is dropped.
//! Afterwards it is only cut into pieces: [`elements`] of an array and [`members`] of an object, each a slice of the
//! text.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// Checks that `text` is one well-formed JSON value (RFC 8259) and drops the white space between its tokens. Deep
/// nesting needs no stack.
///
/// # Errors
/// What is wrong and where, as text for a person.
pub fn compact(text: &str) -> Result<Cow<'_, str>, serde_json::Error> {
    serde_json::from_str::<&RawValue>(text)?;
    let Some(first) = next_white_space(text.as_bytes(), 0) else { return Ok(Cow::Borrowed(text)) };
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let (mut kept, mut next) = (0, Some(first));
    while let Some(at) = next {
        out.push_str(&text[kept..at]);
        kept = at + bytes[at..].iter().take_while(|byte| is_white_space(**byte)).count();
        next = next_white_space(bytes, kept);
    }
    out.push_str(&text[kept..]);
    Ok(Cow::Owned(out))
}

/// Nesting of a compact value: 0 for a scalar, 1 for an object or array of scalars.
pub fn depth(compact: &str) -> usize {
    let bytes = compact.as_bytes();
    let (mut depth, mut deepest, mut at) = (0usize, 0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = string_end(bytes, at) - 1,
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    deepest
}

/// The values of a compact array, in order; `None` if `compact` is not an array.
pub fn elements(compact: &str) -> Option<Elements<'_>> {
    compact.starts_with('[').then_some(Elements { text: compact, at: 1 })
}

/// The keys and values of a compact object, in order; `None` if `compact` is not an object. Keys come with their quotes
/// and escapes.
pub fn members(compact: &str) -> Option<Members<'_>> {
    compact.starts_with('{').then_some(Members { text: compact, at: 1 })
}

/// The value of a compact JSON string; `None` if it is not a string, or not valid Unicode (a lone surrogate).
pub fn string(compact: &str) -> Option<Cow<'_, str>> {
    let inner = compact.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(compact).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// The value of the last top-level member called `key`.
pub fn member<'a>(compact: &'a str, key: &str) -> Option<&'a str> {
    members(compact)?.filter(|(name, _)| string(name).as_deref() == Some(key)).map(|(_, value)| value).last()
}

/// Appends `text` as a JSON string with its quotes.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    // Without a way out, so that many bytes are compared at once.
    let is_escaped = text.bytes().fold(false, |any, byte| any | (byte < 0x20) | (byte == b'"') | (byte == b'\\'));
    if !is_escaped {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text).expect("writing to a Vec does not fail");
    }
}

/// The iterator of [`elements`].
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        next_item(self.text, &mut self.at)
    }
}

/// The iterator of [`members`].
#[derive(Clone, Debug)]
pub struct Members<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        let key = next_item(self.text, &mut self.at)?;
        let value = next_item(self.text, &mut self.at).expect("a checked object has a value for each key");
        Some((key, value))
    }
}

/// The value at `at`. Then `at` is moved past the comma, colon or closing bracket after it.
fn next_item<'a>(text: &'a str, at: &mut usize) -> Option<&'a str> {
    let bytes = text.as_bytes();
    let start = *at;
    if start >= bytes.len() || matches!(bytes[start], b']' | b'}') {
        return None;
    }
    let end = value_end(bytes, start);
    *at = end + 1;
    Some(&text[start..end])
}

/// The index after the value that starts at `start` in checked, compact JSON.
fn value_end(bytes: &[u8], start: usize) -> usize {
    match bytes[start] {
        b'"' => string_end(bytes, start),
        b'{' | b'[' => {
            let (mut depth, mut at) = (0usize, start);
            loop {
                match bytes[at] {
                    b'"' => at = string_end(bytes, at) - 1,
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return at;
                }
            }
        }
        _ => start + bytes[start..].iter().take_while(|byte| !matches!(byte, b',' | b']' | b'}')).count(),
    }
}

/// The index after the closing quote of the string whose opening quote is at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    loop {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The index of the first white space outside strings at or after `at`, which must be outside a string.
fn next_white_space(bytes: &[u8], mut at: usize) -> Option<usize> {
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = string_end(bytes, at),
            byte if is_white_space(byte) => return Some(at),
            _ => at += 1,
        }
    }
    None
}

fn is_white_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{json, mangled_text};

    #[test]
    fn keeps_every_byte_that_is_not_white_space() {
        for exact in [
            r#"{"n":[9007199254740993,1e400,-0,1.10,12345678901234567890123]}"#,
            r#"{"a":1,"a":2,"\u0061":3}"#,
            r#"{"s":"\u0041\/\u0000\ud800 x\"\\"}"#,
            "{}",
            r#""text with  spaces""#,
        ] {
            let spaced = exact.replace("\":", "\" :\n\t").replace("{\"", "{ \"").replace("]}", "] }  ");
            assert_eq!(compact(exact).expect("well-formed"), exact);
            assert_eq!(compact(&spaced).expect("well-formed"), exact);
        }
    }

    #[test]
    fn refuses_what_is_no_json() {
        for bad in ["", "{", "[1,]", "{\"a\"}", "01", "1.", "\"\u{1}\"", "nul", "1 2", "{'a':1}", "\"\\x\"", "NaN"] {
            assert!(compact(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn counts_depth_without_recursion() {
        for (text, expected) in [("1", 0), ("{}", 1), (r#"{"a":[]}"#, 2), (r#"{"a":"[[{","b":[{}]}"#, 3)] {
            assert_eq!(depth(text), expected, "{text}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(depth(&compact(&deep).expect("well-formed")), 100_000);
    }

    #[test]
    fn takes_the_last_of_repeated_members() {
        assert_eq!(member(r#"{"a":1,"b":{"a":3},"\u0061":"x,}"}"#, "a"), Some(r#""x,}""#));
        assert_eq!(member("{}", "a"), None);
    }

    /// The text that the innermost pieces of a compact value make up together.
    fn joined(compact: &str) -> String {
        if let Some(elements) = elements(compact) {
            let pieces: Vec<String> = elements.map(joined).collect();
            return format!("[{}]", pieces.join(","));
        }
        if let Some(members) = members(compact) {
            let pieces: Vec<String> = members.map(|(key, value)| format!("{key}:{}", joined(value))).collect();
            return format!("{{{}}}", pieces.join(","));
        }
        let _ = string(compact);
        compact.to_owned()
    }

    mod fuzz {
        use super::*;

        proptest! {
            #[test]
            fn any_text_is_refused_or_cut_without_a_loss(text in mangled_text(json().prop_map(|value| value.to_string()))) {
                let well_formed = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
                let Ok(compact) = compact(&text) else {
                    prop_assert!(!well_formed);
                    return Ok(());
                };
                prop_assert!(well_formed);
                prop_assert_eq!(super::super::compact(&compact).expect("well-formed"), &*compact);
                prop_assert_eq!(joined(&compact), &*compact);
                prop_assert!(depth(&compact) <= compact.len());
                let _ = member(&compact, "a");
            }
        }
    }

    proptest! {
        #[test]
        fn compacting_pretty_text_gives_compact_text(value in json()) {
            let pretty = serde_json::to_string_pretty(&value).expect("serializes");
            prop_assert_eq!(compact(&pretty).expect("well-formed"), value.to_string());
        }

        #[test]
        fn pieces_are_the_values(values in prop::collection::vec(json(), 0..6)) {
            let text = serde_json::Value::from(values.clone()).to_string();
            let pieces: Vec<String> = elements(&text).expect("an array").map(str::to_owned).collect();
            prop_assert_eq!(pieces, values.iter().map(ToString::to_string).collect::<Vec<_>>());
        }
    }
}
