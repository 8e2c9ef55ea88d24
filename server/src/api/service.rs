//! The way of a request: whether it may be answered at all, then `POST /rpc` to its method and the rest to its path.
//!
//! Calls are what the server is measured by, so nothing stands between the HTTP layer and a method that costs: no look
//! at headers that the call does not need.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use eventodb_store::EventStore;
use futures_util::FutureExt as _;
use http::{Method, Request};

use crate::api::errors::{self, Failure};
use crate::api::headers::check_host;
use crate::api::state::State;
use crate::api::{cors, routes, rpc};
use crate::config::Config;
use crate::http::{Answer, Arriving, Exchange, Server, Service};
use crate::observe::{Record, RequestLog};

const CALLS: &str = "/rpc";

/// EventoDB as an application of the HTTP layer.
pub(crate) struct Api(State);

impl Api {
    /// The application that serves `store` by `server`.
    pub(crate) fn new(store: Arc<EventStore>, config: Config, log: Arc<RequestLog>, server: &Server) -> Self {
        Self(State::new(store, config, log, server))
    }

    async fn answer_checked(&self, request: Request<Arriving>, exchange: &Exchange, started: Instant) -> Answer {
        let state = &self.0;
        if exchange.is_draining() {
            return Answer::Reply(Failure::stopping().closing().into_response());
        }
        if let Err(failure) = check_host(&request) {
            return Answer::Reply(failure.into_response());
        }
        if state.is_test_mode()
            && let Err(failure) = routes::check_sender(state, &request)
        {
            let record = Record::new("unknown sender", started);
            return Answer::Reply(routes::refuse(state, exchange, request, failure, &record));
        }
        if request.uri().path() == CALLS && request.method() == Method::POST {
            return Answer::Reply(rpc::answer(state, exchange, request, started).await);
        }
        Box::pin(routes::answer(state, exchange, request, started)).await
    }
}

impl Service for Api {
    async fn answer(self: Arc<Self>, request: Request<Arriving>, exchange: Arc<Exchange>) -> Answer {
        let started = Instant::now();
        let readers = cors::Readers::of(&request, &self.0.config);
        let answer = AssertUnwindSafe(self.answer_checked(request, &exchange, started)).catch_unwind();
        let mut answer = answer.await.unwrap_or_else(|_| {
            // The panic hook has logged what happened. Other requests are not concerned.
            let record = Record::new("unknown", started);
            Answer::Reply(errors::finish(&self.0.log, &record, Err(Failure::panicked())))
        });
        readers.tell(answer.headers_mut());
        answer
    }
}
