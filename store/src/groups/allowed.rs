//! Which groups a caller may touch.

use std::sync::Arc;

use super::group::Definition;

/// Which groups of a name a caller may touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Allowed {
    /// All.
    #[default]
    Any,
    /// One that is defined so.
    Only(Arc<Definition>),
    /// None: there was none when the right was checked.
    Nothing,
}

impl Allowed {
    /// Whether a group may be touched.
    pub(crate) fn allows(&self, definition: &Definition) -> bool {
        match self {
            Self::Any => true,
            Self::Only(only) => **only == *definition,
            Self::Nothing => false,
        }
    }
}
