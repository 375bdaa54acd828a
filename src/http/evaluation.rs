//! `POST /v1/policies/evaluate`: what a policy would say.

use actix_web::{HttpRequest, HttpResponse, web};

use super::answer::{answer, on_thread};
use super::owner::resource;
use super::problem::{Kind, Problem};
use super::{State, auth, body};
use crate::release::{Evaluation, EvaluationFault};

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.service(resource("/policies/evaluate").route(web::post().to(evaluate)));
}

impl From<EvaluationFault> for Problem {
    fn from(fault: EvaluationFault) -> Self {
        match fault {
            EvaluationFault::Malformed { .. } => Self::new(Kind::Malformed, fault.to_string()),
            EvaluationFault::NotFound(_) => Self::new(Kind::NotFound, fault.to_string()),
            EvaluationFault::Refused(refusal) => refusal.into(),
        }
    }
}

/// Asks a policy about an input and decides over nothing: [`crate::release::Service::evaluate`].
async fn evaluate(state: web::Data<State>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let result = async {
        let caller = auth::caller(&request)?;
        let bytes = body::read(&request, payload, body::OWNER_LIMIT).await?;
        let said = on_thread(&state, move |service| {
            let asked: Evaluation = body::parse(&bytes)?;
            Ok(service.evaluate(&caller.owner, asked)?)
        });
        Ok(HttpResponse::Ok().json(said.await?))
    };
    answer(&request, result.await)
}
