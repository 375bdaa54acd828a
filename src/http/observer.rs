//! What is seen of requests and connections, for whoever counts them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::body::MessageBody;
use actix_web::dev::{Extensions, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use actix_web::web;

use super::State;
use super::roles::ENDPOINTS;

/// A request that was answered. What it says is one of few, whatever was asked: never a path, but its pattern.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// The pattern of the path, as the table of endpoints has it; none: there is no such path.
    pub route: Option<&'static str>,
    /// The method, or `other`.
    pub method: &'static str,
    /// The status.
    pub status: u16,
    /// From the request's head to its answer's.
    pub took: Duration,
}

/// Who is told. Called on the listener's threads, so that it returns at once.
pub trait Observer: Send + Sync {
    /// A request came in.
    fn began(&self);

    /// It is no longer worked on: answered, or given up as its client left.
    fn ended(&self);

    /// It was answered.
    fn answered(&self, answered: Answered);

    /// A connection was made, with TLS where there is any.
    fn connected(&self);

    /// It ended.
    fn disconnected(&self);
}

/// Nobody is told.
pub struct NoObserver;

impl Observer for NoObserver {
    fn began(&self) {}

    fn ended(&self) {}

    fn answered(&self, _: Answered) {}

    fn connected(&self) {}

    fn disconnected(&self) {}
}

struct InFlight(Arc<dyn Observer>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.ended();
    }
}

/// Tells of each request: outermost, so that it sees what is turned away too.
pub(super) async fn observe<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    let Some(state) = request.app_data::<web::Data<State>>() else {
        return next.call(request).await;
    };
    let observer = state.observer.clone();
    let start = Instant::now();
    observer.began();
    let in_flight = InFlight(observer.clone());
    let (route, method) = (route(&request), method(request.method()));
    let answer = next.call(request).await;
    let status = match &answer {
        Ok(answer) => answer.status(),
        Err(error) => error.as_response_error().status_code(),
    };
    drop(in_flight);
    observer.answered(Answered {
        route,
        method,
        status: status.as_u16(),
        took: start.elapsed(),
    });
    answer
}

/// The path's pattern, of those that are in the table.
fn route(request: &ServiceRequest) -> Option<&'static str> {
    let map = request.resource_map();
    let pattern = map.match_pattern(request.match_info().as_str())?;
    let row = ENDPOINTS.iter().find(|row| row.path == pattern);
    row.map(|row| row.path)
}

fn method(method: &Method) -> &'static str {
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
    let found = known.into_iter().find(|known| *known == method.as_str());
    found.unwrap_or("other")
}

/// Dropped with its connection.
struct Open(Arc<dyn Observer>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.disconnected();
    }
}

/// Tells of a connection, and of its end.
pub(super) fn connected(observer: &Arc<dyn Observer>, extensions: &mut Extensions) {
    observer.connected();
    extensions.insert(Open(observer.clone()));
}
