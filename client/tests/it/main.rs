//! The client against a fake server that speaks the protocol's shapes and fails on demand.

mod buffered;
mod cut;
mod damage;
mod fake;
mod group;
mod member;
mod replies;
mod retry;
mod subscription;
mod worker;
