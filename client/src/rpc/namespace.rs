//! `ns.*`: the namespaces of a server, and the streams and categories of the token's namespace.

use eventodb_protocol::limits::CATEGORIES_MAX;
use eventodb_protocol::reply::{
    CategoryListed, NamespaceCreated, NamespaceDeleted, NamespaceInfo, NamespaceListed, Quota, StreamListed,
};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::client::{Client, Repeat};
use crate::error::Result;

/// Options of a new namespace.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CreateNamespace {
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A token of the protocol's form that names the namespace. If left out, the server generates one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// A JSON object that is stored with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Box<RawValue>>,
}

/// What is to be changed about a namespace; what is left out stays as it is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct UpdateNamespace {
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether it can be neither deleted nor replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protected: Option<bool>,
    /// How much it may hold. It takes the place of the former quota as a whole. Needs the administrator's token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
}

/// Which streams to list.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StreamsQuery {
    /// Only names that begin with this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Most entries, 1 to 1,000. Default 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only names after this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl Client {
    /// Creates a namespace. Needs the administrator's token. Not retried if its outcome is unknown.
    ///
    /// # Errors
    /// `NamespaceExists`, and whatever else a call can fail with.
    pub async fn create_namespace(&self, namespace: &str, options: &CreateNamespace) -> Result<NamespaceCreated> {
        self.call(&("ns.create", namespace, options), Repeat::IfNotDone).await?.parse()
    }

    /// Deletes a namespace with everything in it. Not retried if its outcome is unknown.
    ///
    /// # Errors
    /// `NamespaceNotFound`, and whatever else a call can fail with.
    pub async fn delete_namespace(&self, namespace: &str) -> Result<NamespaceDeleted> {
        self.call(&("ns.delete", namespace), Repeat::IfNotDone).await?.parse()
    }

    /// All namespaces, by name. Needs the administrator's token.
    ///
    /// # Errors
    /// Whatever a call can fail with.
    pub async fn namespaces(&self) -> Result<Vec<NamespaceListed>> {
        self.call(&("ns.list",), Repeat::Always).await?.parse()
    }

    /// What a namespace holds.
    ///
    /// # Errors
    /// `NamespaceNotFound`, and whatever else a call can fail with.
    pub async fn namespace_info(&self, namespace: &str) -> Result<NamespaceInfo> {
        self.call(&("ns.info", namespace), Repeat::Always).await?.parse()
    }

    /// Changes what may be changed about a namespace.
    ///
    /// # Errors
    /// `NamespaceNotFound`, and whatever else a call can fail with.
    pub async fn update_namespace(&self, namespace: &str, options: &UpdateNamespace) -> Result<NamespaceInfo> {
        self.call(&("ns.update", namespace, options), Repeat::Always).await?.parse()
    }

    /// A page of the namespace's streams, by name.
    ///
    /// # Errors
    /// Whatever a call can fail with.
    pub async fn streams(&self, query: &StreamsQuery) -> Result<Vec<StreamListed>> {
        self.call(&("ns.streams", query), Repeat::Always).await?.parse()
    }

    /// All categories of the namespace, by name.
    ///
    /// # Errors
    /// Whatever a call can fail with.
    pub async fn categories(&self) -> Result<Vec<CategoryListed>> {
        let mut listed: Vec<CategoryListed> = Vec::new();
        loop {
            let cursor = serde_json::json!({ "cursor": listed.last().map(|last| &last.category) });
            let page: Vec<CategoryListed> = self.call(&("ns.categories", cursor), Repeat::Always).await?.parse()?;
            let is_last = page.len() < CATEGORIES_MAX;
            listed.extend(page);
            if is_last {
                return Ok(listed);
            }
        }
    }
}
