//! The application as the HTTP layer sees it: whether a request may be answered at all, then the call or the router,
//! then what every reply has.

use std::future::ready;
use std::net::IpAddr;
use std::ops::ControlFlow::{self, Break, Continue};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use eventodb_store::EventStore;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Method, Request};
use tower_service::Service as _;

use crate::api::arrival::Arrival;
use crate::api::auth;
use crate::api::client_address;
use crate::api::conclusion::{conclude, conclude_unlogged};
use crate::api::cors::Readers;
use crate::api::errors::Failure;
use crate::api::headers::check_host;
use crate::api::methods::method;
use crate::api::origin;
use crate::api::rates::Limited;
use crate::api::reply::Endless;
use crate::api::router::{is_probe, refuse, router};
use crate::api::rpc;
use crate::api::state::AppState;
use crate::config::Config;
use crate::http::{Answer, Arriving, Exchange, Server, Service};
use crate::live::Live;
use crate::observe::RequestLog;

/// EventoDB as an application of the HTTP layer.
pub(crate) struct Api {
    state: Arc<AppState>,
    router: Router,
}

impl Api {
    /// The application that serves `store` by `server`.
    pub(crate) fn new(
        store: Arc<EventStore>,
        config: Config,
        live: Arc<Live>,
        log: Arc<RequestLog>,
        server: &Server,
    ) -> Self {
        let state = Arc::new(AppState::new(store, config, live, log, server));
        Self { router: router(&state), state }
    }

    /// What all connections share.
    pub(crate) fn state(&self) -> &Arc<AppState> {
        &self.state
    }

    /// Counts a request for the bounds on requests a second. Probes are always answered: a server that is asked much must
    /// not seem dead.
    fn count<B>(&self, request: &Request<B>, arrival: &Arrival) -> Result<(), Limited> {
        if !self.state.live.now().rates.count_requests() || is_probe(request.uri().path()) {
            return Ok(());
        }
        self.state.rates().admit(arrival.client, auth::shown(request).as_ref())
    }

    /// The request, if it may be answered at all; otherwise its refusal.
    fn admit(&self, request: Request<Arriving>, arrival: &Arrival) -> ControlFlow<Response, Request<Arriving>> {
        let state = &self.state;
        if arrival.exchange.is_draining() {
            let failure = Failure::stopping().closing();
            return Break(conclude_unlogged(state, arrival, const { method("stopping") }, Err(failure)));
        }
        if let Err(failure) = check_host(&request) {
            return Break(conclude_unlogged(state, arrival, const { method("unknown host") }, Err(failure)));
        }
        if state.is_test_mode()
            && !is_probe(request.uri().path())
            && let Err(failure) = origin::check(&state.config.pages, &request)
        {
            return Break(refuse(state, arrival, request, failure, const { method("unknown sender") }));
        }
        if let Err(limited) = self.count(&request, arrival) {
            return Break(refuse(state, arrival, request, limited.into(), const { method("too many requests") }));
        }
        Continue(request)
    }

    /// Answers a request. What comes back is small: of thousands of calls that wait none keeps its request.
    fn route(&self, request: Request<Arriving>, arrival: Arrival) -> BoxFuture<'_, Response> {
        let mut request = match self.admit(request, &arrival) {
            Continue(request) => request,
            Break(refusal) => return Box::pin(ready(refusal)),
        };
        // Nearly all requests are calls. The router would cost each of them some allocations: see decision 0026.
        if request.method() == Method::POST && request.uri().path() == rpc::PATH {
            return Box::pin(rpc::answer(&self.state, arrival, request));
        }
        request.extensions_mut().insert(arrival);
        Box::pin(self.router.clone().call(request).map(|Ok(response)| response))
    }
}

impl Service for Api {
    type Body = Body;

    async fn give_up_files(&self) {
        self.state.store.give_up_files().await;
    }

    fn answer(
        &self,
        request: Request<Arriving>,
        exchange: Arc<Exchange>,
        peer: IpAddr,
    ) -> impl Future<Output = Answer<Body>> + Send {
        let started = Instant::now();
        let client = client_address::of(peer, request.headers(), &self.state.config.trusted_proxies);
        let readers = Readers::of(&request, &self.state.config);
        let arrival = Arrival { exchange, client, started };
        let answer = panic::catch_unwind(AssertUnwindSafe(|| self.route(request, arrival.clone())));
        async move {
            let response = match answer {
                Ok(answer) => AssertUnwindSafe(answer).catch_unwind().await,
                Err(panic) => Err(panic),
            };
            let mut response = response.unwrap_or_else(|_| {
                // The panic hook has logged what happened. Other requests are not concerned.
                conclude(&self.state, &arrival, arrival.record(const { method("unknown") }), Err(Failure::panicked()))
            });
            readers.tell(response.headers_mut());
            match response.extensions_mut().remove::<Endless>() {
                Some(Endless) => Answer::Stream(response),
                None => Answer::Reply(response),
            }
        }
    }
}
