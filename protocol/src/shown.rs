//! What an error may show of a text that somebody gave, who may have put a secret where a name or a URL belongs.

use crate::Token;

const A_TOKEN: &str = "(a token)";

/// A name, or `(a token)` in place of a token.
pub fn name(text: &str) -> &str {
    if text.trim().parse::<Token>().is_ok() { A_TOKEN } else { text }
}

/// The scheme and the host of a URL, and `…` in place of anything else: user, password, path and query. The text need not
/// be a URL.
pub fn url(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            (format!("{scheme}://"), rest)
        }
        Some(_) => (String::new(), "…"),
        None => (String::new(), text),
    };
    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let shown = match (rest.matches('@').count(), place.split_once('@')) {
        (0, _) => name(place).to_owned(),
        (1, Some((_, host))) => format!("…@{}", name(host)),
        // It may belong to a password that is not encoded.
        _ => "…".to_owned(),
    };
    let more = if place.len() < rest.trim_end_matches('/').len() { "/…" } else { "" };
    format!("{scheme}{shown}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_place_of_a_name_is_not_shown() {
        let token = Token::generate("shop");
        assert_eq!(name(token.as_str()), A_TOKEN);
        assert_eq!(name(&format!("{token}\n")), A_TOKEN);
        assert_eq!(name("shop"), "shop");
    }

    #[test]
    fn a_url_is_shown_up_to_its_host() {
        for (text, shown) in [
            ("http://127.0.0.1:1/", "http://127.0.0.1:1"),
            ("http://127.0.0.1:1/?token=s3cret", "http://127.0.0.1:1/…"),
            ("https://[::1]:8080/a/s3cret", "https://[::1]:8080/…"),
            ("https://me:s3cret@db1:1", "https://…@db1:1"),
            ("https://me:s3c@ret@db1", "https://…"),
            ("https://me:s3/cret@db1", "https://…/…"),
            ("https://db1?token=s3cret@x", "https://…/…"),
            ("me:s3cret@db1", "…@db1"),
            ("me:s3cret@http://db1", "…"),
            ("localhost:8080", "localhost:8080"),
            ("", ""),
        ] {
            assert_eq!(url(text), shown, "{text}");
        }
        let token = Token::generate("shop");
        assert_eq!(url(token.as_str()), A_TOKEN);
        assert_eq!(url(&format!("http://{token}/")), format!("http://{A_TOKEN}"));
    }
}
