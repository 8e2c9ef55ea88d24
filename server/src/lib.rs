//! EventoDB over HTTP.
