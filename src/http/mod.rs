//! HTTP: the host API, the owner API, and the pages that explain problems.
//!
//! Bytes from anybody come in here and leave as parsed requests, or as a problem document that names
//! the member that is wrong. Everything that takes time runs on blocking threads, so that a slow
//! evaluation never holds up the listener.

mod answer;
mod apply;
mod audit;
mod auth;
mod body;
mod bundles;
mod evaluation;
mod exposition;
mod freezes;
mod holds;
mod host;
mod impact;
mod listeners;
mod objects;
mod observer;
mod once;
mod openapi;
mod owner;
mod page;
mod peer;
mod platforms;
mod problem;
mod problem_kind;
mod read;
pub mod request_id;
mod roles;
mod secret_versions;
mod signing_keys;
mod tls;
mod tokens;
mod trust;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Server, Service as _};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::from_fn;
use actix_web::{App, HttpMessage as _, HttpRequest, HttpResponse, HttpServer, Resource, Route, guard, web};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::release::Service;
use problem::{Kind, Problem};

pub use apply::ApplyBody;
pub use audit::{
    CheckpointList, ConsistencyReply, EntryList, EntryView, KeptCheckpoint, ProofReply, SignedCheckpoint,
};
pub use bundles::{BundleList, PushBody, PushReply, RevisionList, RollbackBody};
pub use exposition::{Exposition, MetricsServer};
pub use freezes::{FreezeBody, FreezeList, FreezeReply, FreezeTarget, LiftReply};
pub use holds::{
    ApprovalsBody, ApprovalsReply, ConfirmBody, HoldList, LimitList, ReasonBody, ResetBody, ResetReply,
};
pub use host::{LaunchBody, LaunchReply, RegisterBody, ValidateBody, ValidateReply};
pub use impact::ImpactReply;
pub use listeners::Listeners;
pub use objects::ObjectList;
pub use observer::{Answered, NoObserver, Observer};
pub use openapi::openapi;
pub use owner::DecisionList;
pub use page::{Cursor, Page};
pub use platforms::{AcceptedBody, AcceptedReply, PlatformReply, PlatformsReply};
pub use roles::{ENDPOINTS, Endpoint, Who};
pub use secret_versions::{SecretRollback, SecretVersionList};
pub use signing_keys::{SigningKeyBody, SigningKeyList};
pub use tls::{LiveTls, TlsError, TlsFacts, TlsFiles};
pub use tokens::{OwnerBody, OwnerEntry, OwnerList, OwnerReply, TokenBody, TokenList, TokenReply};

/// How long a client may take over a request's head, and over its body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// What every handler needs.
pub struct State {
    /// The use cases.
    pub service: Arc<Service>,
    /// Proxies whose `X-Forwarded-For` is believed. Each must append the address of its peer.
    pub trusted_proxies: Vec<IpAddr>,
    /// Who is told of requests.
    pub observer: Arc<dyn Observer>,
}

impl State {
    /// Without proxies, and nobody is told.
    #[must_use]
    pub fn new(service: Arc<Service>) -> Self {
        Self {
            service,
            trusted_proxies: Vec::new(),
            observer: Arc::new(NoObserver),
        }
    }
}

/// The id of a request, in its answer (`x-request-id`) and in every log line about it.
#[derive(Clone, Copy, Debug)]
struct RequestId(Uuid);

/// Serves on bound listeners until it is told to stop; requests that are under way then have `drain` to end.
///
/// # Errors
/// When the TLS files can't be used, or a listener can't be.
pub fn serve(
    listeners: impl Into<Listeners>,
    tls: Option<&Arc<LiveTls>>,
    drain: Duration,
    state: State,
) -> Result<Server, ServeError> {
    let listeners = listeners.into();
    let served = web::Data::new(listeners.served()?);
    let watched = state.observer.clone();
    let state = web::Data::new(state);
    let mut server = HttpServer::new(move || {
        App::new()
            .app_data(state.clone())
            .app_data(served.clone())
            // Inside of the log, which tells of those that are turned away too.
            .wrap(from_fn(auth::gate))
            .wrap_fn(|request, service| {
                let id = RequestId(Uuid::new_v4());
                request.extensions_mut().insert(id);
                let line = format!("{} {}", request.method(), request.path());
                let answer = request_id::within(id.0, service.call(request));
                async move {
                    let mut answer = answer.await?;
                    if let Ok(value) = HeaderValue::from_str(&id.0.to_string()) {
                        answer
                            .headers_mut()
                            .insert(HeaderName::from_static("x-request-id"), value);
                    }
                    log::info!(request_id:% = id.0, status = answer.status().as_u16(); "{line}");
                    Ok(answer)
                }
            })
            .wrap(from_fn(observer::observe))
            .configure(host::routes)
            .configure(owner::routes)
            .service(readable("/livez").route(head_or_get().to(livez)))
            .service(readable("/readyz").route(head_or_get().to(readyz)))
            .service(readable("/openapi.json").route(head_or_get().to(openapi::document)))
            .service(readable("/problems/{name}").route(head_or_get().to(problem_kind::page)))
            .default_service(web::to(|request: HttpRequest| async move {
                Problem::new(Kind::NotFound, "there is nothing at this path").response(&request)
            }))
    })
    .workers(
        std::thread::available_parallelism()
            .map_or(2, std::num::NonZero::get)
            .clamp(2, 16),
    )
    .max_connections(4096)
    // Also handshakes at once: one listener's slow ones must not keep the others' out.
    .max_connection_rate(4096)
    .on_connect({
        let remember = tls::remember(tls.cloned());
        move |connection, extensions| {
            remember(connection, extensions);
            observer::connected(&watched, extensions);
        }
    })
    .tls_handshake_timeout(tls::HANDSHAKE)
    .client_request_timeout(REQUEST_TIMEOUT)
    // Whoever starts it decides what ends it.
    .disable_signals()
    .shutdown_timeout(drain.as_secs());
    for listener in listeners.all() {
        server = match tls {
            Some(tls) => server.listen_openssl(listener, tls.acceptor()?)?,
            None => server.listen(listener)?,
        };
    }
    Ok(server.run())
}

/// Why a server can't be started.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The TLS files can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The listener can't be.
    #[error("the listener can't be used: {0}")]
    Io(#[from] std::io::Error),
}

/// What is there to be read only.
fn readable(path: &str) -> Resource {
    web::resource(path.to_owned()).default_service(web::to(answer::method_not_allowed))
}

/// HEAD is GET without the body, which the HTTP layer leaves out.
fn head_or_get() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// The server runs.
#[derive(Serialize, JsonSchema)]
struct Livez {
    /// `alive`.
    status: &'static str,
}

/// The server can do its work.
#[derive(Serialize, JsonSchema)]
struct Readyz {
    /// `ready`.
    status: &'static str,
    /// Fingerprints of the extra roots that are trusted beside AMD's.
    danger_extra_roots: Vec<String>,
}

async fn livez() -> HttpResponse {
    HttpResponse::Ok().json(Livez { status: "alive" })
}

async fn readyz(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    let service = state.service.clone();
    let roots = service.extra_roots();
    match web::block(request_id::carried(move || service.store().ping())).await {
        Ok(Ok(())) if state.service.log_fault().is_some() => {
            Problem::new(Kind::Unavailable, "the audit log can't be signed").response(&request)
        }
        Ok(Ok(())) => HttpResponse::Ok().json(Readyz {
            status: "ready",
            danger_extra_roots: roots,
        }),
        _ => Problem::new(Kind::Unavailable, "the store can't write").response(&request),
    }
}
