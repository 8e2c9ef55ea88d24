//! The methods of the protocol, one function each.

mod namespace;
mod performance;
mod read;
mod system;
mod token;
mod write;

pub use namespace::{CreateNamespace, StreamsQuery, UpdateNamespace};
pub use token::{CreateToken, RotateToken};
pub use write::AppendMany;

use serde::de::DeserializeOwned;

use crate::client::Answer;
use crate::error::{Error, Result};

impl Answer {
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.text).map_err(|error| Error::protocol(error.to_string()))
    }
}
