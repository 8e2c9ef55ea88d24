//! Async client for EventoDB.
