//! What `ns.streams` and `ns.categories` share: a list of which the caller may see a part.
//!
//! The categories that a token is limited to are spans of the list in byte order. A page is put together from the spans,
//! one look at the store for each: at most two for each name of the token, and none behind a full page.

use eventodb_protocol::reply::{CategoryListed, StreamListed};
use eventodb_protocol::request::ListPage;
use eventodb_protocol::rights::Span;
use eventodb_store::{Log, Result};

use crate::api::auth::Caller;

/// An entry of a list that is in the byte order of its names.
pub(super) trait Listed: Sized + Send {
    /// The part of the list that a token of these categories may see.
    fn spans(caller: &Caller) -> Option<Vec<Span<'_>>>;

    /// A page of the whole list.
    fn page(log: &Log, page: &ListPage) -> impl Future<Output = Result<Vec<Self>>> + Send;

    /// The name that the entry stands for.
    fn name(&self) -> &str;
}

/// The entries of a page that the caller may see.
pub(super) async fn page<T: Listed>(caller: &Caller, page: &ListPage) -> Result<Vec<T>> {
    let Some(spans) = T::spans(caller) else { return T::page(caller.log(), page).await };
    let mut listed: Vec<T> = Vec::new();
    for span in spans {
        if listed.len() == page.limit {
            break;
        }
        let Some(part) = page.within(&span, page.limit - listed.len()) else { continue };
        let part = T::page(caller.log(), &part).await?;
        listed.extend(part.into_iter().filter(|listed| span.contains(listed.name())));
    }
    Ok(listed)
}

impl Listed for StreamListed {
    fn spans(caller: &Caller) -> Option<Vec<Span<'_>>> {
        caller.grant().categories().spans_of_streams()
    }

    fn page(log: &Log, page: &ListPage) -> impl Future<Output = Result<Vec<Self>>> + Send {
        log.streams(page)
    }

    fn name(&self) -> &str {
        &self.stream
    }
}

impl Listed for CategoryListed {
    fn spans(caller: &Caller) -> Option<Vec<Span<'_>>> {
        caller.grant().categories().spans()
    }

    fn page(log: &Log, page: &ListPage) -> impl Future<Output = Result<Vec<Self>>> + Send {
        log.categories(page)
    }

    fn name(&self) -> &str {
        &self.category
    }
}
