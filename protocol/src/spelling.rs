//! Finds the known name that a wrong one was probably meant to be, for error messages.
//!
//! A request may have a name of any length, so that only its first [`COMPARED_BYTES`] are compared.

use std::fmt;

/// Bytes of an unknown name that are compared with known names and shown in an error.
pub const COMPARED_BYTES: usize = 64;

/// Whether `name` is not `known`, but differs from it only in the case of ASCII letters, in `-` and in `_`.
pub fn is_respelled(name: &str, known: &str) -> bool {
    name != known && folded(name).eq(folded(known))
}

/// Whether at most `most` bytes have to be inserted, removed or replaced to make `name` into `known`.
pub fn is_within(name: &str, known: &str, most: usize) -> bool {
    name.len() <= COMPARED_BYTES && distance(name.as_bytes(), known.as_bytes(), most).is_some()
}

/// The known name that is most similar to `name`, by the share of bytes that differ: `version` is nearer to
/// `expectedVersion` than to `id`. `None` only if `known` is empty.
pub fn nearest<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    let name: Vec<u8> = folded(name).take(COMPARED_BYTES).collect();
    known.iter().copied().min_by_key(|known| {
        let known: Vec<u8> = folded(known).collect();
        let differing = distance(&name, &known, usize::MAX).expect("there is no bound");
        differing * 1000 / name.len().max(known.len()).max(1)
    })
}

/// Writes a name from a request in quotes, with escapes, and cut if it is long.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() <= COMPARED_BYTES {
            return write!(f, "{:?}", self.0);
        }
        write!(f, "{:?}…", &self.0[..self.0.floor_char_boundary(COMPARED_BYTES)])
    }
}

fn folded(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().filter(|byte| !matches!(byte, b'-' | b'_')).map(|byte| byte.to_ascii_lowercase())
}

/// The Levenshtein distance, or `None` if it is more than `most`.
fn distance(from: &[u8], to: &[u8], most: usize) -> Option<usize> {
    if from.len().abs_diff(to.len()) > most {
        return None;
    }
    // The distances from the processed part of `from` to each prefix of `to`.
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (taken, byte) in from.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], taken + 1);
        for (at, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(byte != other);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(diagonal + 1).min(row[at] + 1);
        }
        if row.iter().all(|distance| *distance > most) {
            return None;
        }
    }
    row.last().copied().filter(|distance| *distance <= most)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn other_case_and_separators_are_other_spellings() {
        for (name, known, expected) in [
            ("expectedversion", "expectedVersion", true),
            ("expected_version", "expectedVersion", true),
            ("Expected-Version_", "expectedVersion", true),
            ("expectedVersion", "expectedVersion", false),
            ("expectedVersions", "expectedVersion", false),
            ("_", "id", false),
            ("", "id", false),
        ] {
            assert_eq!(is_respelled(name, known), expected, "{name}");
        }
    }

    #[test]
    fn distance_counts_bytes() {
        for (name, expected) in [
            ("metadata", true),
            ("metdata", true),
            ("metatada", true),
            ("metadatas", true),
            ("Metadatum", false),
            ("metadat", true),
            ("metdat", true),
            ("meta", false),
            ("data", false),
            ("mutated", false),
        ] {
            assert_eq!(is_within(name, "metadata", 2), expected, "{name}");
        }
    }

    #[test]
    fn the_nearest_is_always_a_known_one() {
        let known = ["id", "expectedVersion"];
        assert_eq!(nearest("expected_versoin", &known), Some("expectedVersion"));
        assert_eq!(nearest("expected", &known), Some("expectedVersion"));
        assert_eq!(nearest("version", &known), Some("expectedVersion"));
        assert_eq!(nearest("ID", &known), Some("id"));
        assert_eq!(nearest(&"x".repeat(1 << 20), &known), Some("expectedVersion"));
        assert_eq!(nearest("x", &[]), None);
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        assert_eq!(Shown("a\"b").to_string(), r#""a\"b""#);
        assert_eq!(
            Shown(&format!("{}ä{}", "x".repeat(63), "y".repeat(99))).to_string(),
            format!("\"{}\"…", "x".repeat(63))
        );
    }

    proptest! {
        #[test]
        fn a_distance_is_one_of_two_directions(a in "[a-c]{0,8}", b in "[a-c]{0,8}", most in 0..9usize) {
            let full = distance(a.as_bytes(), b.as_bytes(), usize::MAX).expect("unbounded");
            prop_assert_eq!(distance(b.as_bytes(), a.as_bytes(), usize::MAX), Some(full));
            prop_assert_eq!(distance(a.as_bytes(), b.as_bytes(), most), (full <= most).then_some(full));
        }
    }
}
