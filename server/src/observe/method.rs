//! The name of what a request asks for, with its number among all such names.

/// What a request asks for, as the request log, the audit and the metrics call it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Method {
    pub(crate) name: &'static str,
    /// Its place among the names that [`super::Finished`] was made with, so that nothing is looked up for a request.
    pub(super) number: usize,
}

impl Method {
    /// The one at this place of all names.
    pub(crate) const fn new(name: &'static str, number: usize) -> Self {
        Self { name, number }
    }
}
