//! What becomes of the groups of a namespace whose messages are replaced.

/// What an import with `force` does with the groups of the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupsThen {
    /// They keep their checkpoints, at most up to the new head, and their parked streams. All memberships end.
    Keep,
    /// They are deleted with the messages.
    Drop,
}

impl GroupsThen {
    /// Its name in requests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Drop => "drop",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Keep, Self::Drop].into_iter().find(|then| then.as_str() == name)
    }
}
