//! Input for property tests: well-formed text, and nearly well-formed text.
//!
//! The first check refuses random bytes. Well-formed text with a few edits reaches the later checks.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

/// The text that an edit inserts: text with a meaning in some format, and bytes that are not UTF-8.
const PIECES: &[&[u8]] = &[
    b"",
    b" ",
    b"\n",
    b"\r",
    b"\0",
    b"\"",
    b"\\",
    b"/",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"null",
    b"true",
    b"-",
    b"-0",
    b"0",
    b"1",
    b"1.0",
    b"1e400",
    b"9007199254740993",
    b"9223372036854775807",
    b"9223372036854775808",
    b"18446744073709551616",
    b"\\ud800",
    b"\\u0000",
    b"\\u00e9",
    b"\xc3\xa9",
    b"\xc3",
    b"\xff",
    b"\xef\xbb\xbf",
    b"%",
    b"%00",
    b"%c3",
    b"%C3%A9",
    b"+",
    b"&",
    b"=",
    b"?",
    b"#",
    b"@",
    b"_",
    b"ns_",
    b"id",
    b"data",
    b"T",
    b"Z",
    b"+00:00",
    b"2026-11-21T02:56:06.123456789Z",
];

/// JSON values, with odd numbers and strings.
pub fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "\\PC{0,6}".prop_map(Into::into),
        "[\"\\\\{}\\[\\],: ]{0,6}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            vec(("\\PC{0,4}", inner), 0..5).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Bytes of `text` with at most four edits: something removed, repeated or put in its place.
pub fn mangled(text: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![4 => select(PIECES).prop_map(<[u8]>::to_vec), 1 => vec(any::<u8>(), 0..4)];
    let edit = (any::<Index>(), 0..12usize, any::<bool>(), piece);
    (text, vec(edit, 0..=4)).prop_map(|(text, edits)| {
        let mut bytes = text.into_bytes();
        for (at, removed, repeats, piece) in edits {
            let at = at.index(bytes.len() + 1);
            let end = (at + removed).min(bytes.len());
            let mut put = if repeats { bytes[at..end].repeat(2) } else { Vec::new() };
            put.extend(piece);
            bytes.splice(at..end, put);
        }
        bytes
    })
}

/// The same, limited to valid UTF-8.
pub fn mangled_text(text: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    mangled(text).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Cuts `bytes` into pieces, some of them empty.
pub fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect()
}
