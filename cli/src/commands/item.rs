//! One item of a list that is separated by commas.

/// The item as it is. An empty one would stand for all messages, where the caller has only set a comma too many, or an empty
/// variable; and names are taken with their blanks.
pub(super) fn parse(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("an item is empty; leave the flag out to mean all".to_owned());
    }
    if text.trim() != text {
        return Err("an item begins or ends with a blank; separate items by a comma alone".to_owned());
    }
    Ok(text.to_owned())
}
