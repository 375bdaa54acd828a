//! What every handler does: run a use case, and answer with what came of it.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use uuid::Uuid;

use super::problem::Problem;
use super::{State, request_id};
use crate::release::Service;

pub(super) fn answer(request: &HttpRequest, result: Result<HttpResponse, Problem>) -> HttpResponse {
    result.unwrap_or_else(|problem| problem.response(request))
}

/// Runs a use case where it may take its time.
pub(super) async fn on_thread<T: Send + 'static>(
    state: &web::Data<State>,
    work: impl FnOnce(&Service) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let service: Arc<Service> = state.service.clone();
    web::block(request_id::carried(move || work(&service))).await?
}

/// A path that holds no UUID names nothing.
pub(super) fn uuid(path: &str) -> Result<Uuid, Problem> {
    path.parse()
        .map_err(|_| Problem::from(crate::release::Refusal::NotFound))
}

/// What the gate answers already, for paths of the router that are not in the table.
pub(super) async fn method_not_allowed(request: HttpRequest) -> HttpResponse {
    Problem::not_allowed(&[]).response(&request)
}
