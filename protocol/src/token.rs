//! Tokens: `ns_<base64url(namespace), no padding>_<64 hex digits>`.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::Rng as _;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

/// A token as a client sends it. It names its namespace, and is compared by its hash only.
///
/// Its `Debug` form hides the secret; `Display` writes it in full.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    text: String,
    namespace: String,
}

/// SHA-256 of a token: what a server stores.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

/// The text does not have the form of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token has the form ns_<base64url of the namespace>_<64 hex digits>")]
pub struct ParseTokenError;

impl Token {
    /// A new token of `namespace`, with 256 random bits.
    pub fn generate(namespace: &str) -> Self {
        let mut secret = [0u8; 32];
        rand::rng().fill_bytes(&mut secret);
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!("ns_{}_{hex}", URL_SAFE_NO_PAD.encode(namespace));
        Self { text, namespace: namespace.to_owned() }
    }

    /// The namespace that the token names.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The token itself.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The hash that a server stores.
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.text.as_bytes()).into())
    }
}

impl FromStr for Token {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (namespace, secret) =
            text.strip_prefix("ns_").and_then(|rest| rest.rsplit_once('_')).ok_or(ParseTokenError)?;
        if secret.len() != 64 || !secret.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ParseTokenError);
        }
        let namespace = URL_SAFE_NO_PAD.decode(namespace).map_err(|_| ParseTokenError)?;
        let namespace = String::from_utf8(namespace).map_err(|_| ParseTokenError)?;
        if namespace.is_empty() {
            return Err(ParseTokenError);
        }
        Ok(Self { text: text.to_owned(), namespace })
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(of {:?})", self.namespace)
    }
}

impl TokenHash {
    /// From the 32 bytes that were stored.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes to store.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for TokenHash {
    /// Compares in constant time.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl std::hash::Hash for TokenHash {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::mangled_text;

    #[test]
    fn refuses_other_forms() {
        let hex = "a".repeat(64);
        for bad in [
            String::new(),
            "ns_".into(),
            format!("ns_ZGVmYXVsdA_{}", &hex[1..]),
            format!("ns_ZGVmYXVsdA_{hex}0"),
            format!("ns_ZGVmYXVsdA_{}g", &hex[1..]),
            format!("ns_ZGVmYXVsdA==_{hex}"),
            format!("ns__{hex}"),
            format!("ns_{hex}"),
            format!("NS_ZGVmYXVsdA_{hex}"),
            format!("ns_/w_{hex}"),
            format!("ns__w_{hex}"),
        ] {
            assert_eq!(bad.parse::<Token>(), Err(ParseTokenError), "{bad}");
        }
    }

    #[test]
    fn debug_hides_the_secret() {
        let token = Token::generate("default");
        assert_eq!(format!("{token:?}"), "Token(of \"default\")");
    }

    proptest! {
        #[test]
        fn a_generated_token_names_its_namespace(namespace in "\\PC{1,40}") {
            let token = Token::generate(&namespace);
            let parsed: Token = token.as_str().parse().expect("generated tokens parse");
            prop_assert_eq!(parsed.namespace(), namespace);
            prop_assert!(parsed.hash() == token.hash());
        }
    }

    mod fuzz {
        use super::*;

        proptest! {
            #[test]
            fn any_text_is_refused_or_a_token(
                text in mangled_text("\\PC{0,8}".prop_map(|namespace| Token::generate(&namespace).to_string())),
            ) {
                let Ok(token) = text.parse::<Token>() else { return Ok(()) };
                prop_assert_eq!(token.as_str(), &text);
                prop_assert!(!token.namespace().is_empty());
                let secret = text.rsplit('_').next().expect("it has one");
                prop_assert_eq!(secret.len(), 64);
                let shown = format!("{token:?}");
                prop_assert!(!shown.contains(secret));
                let encoded = URL_SAFE_NO_PAD.encode(token.namespace());
                prop_assert!(text.starts_with(&format!("ns_{encoded}_")), "one namespace has one spelling");
            }
        }
    }
}
