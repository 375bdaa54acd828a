//! The owner API's [`Trust`].

use actix_web::{HttpRequest, HttpResponse, web};

use super::answer::{answer, on_thread};
use super::owner::{registered, resource};
use super::read::{one, precondition};
use super::{State, auth, body};
use crate::domain::object::Object;
use crate::domain::trust::Trust;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.service(
        resource("/trust")
            .route(web::get().to(trust))
            .route(web::put().to(put_trust)),
    );
}

async fn trust(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    one(state, request, |all| Some(all.trust)).await
}

async fn put_trust(state: web::Data<State>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let result = async {
        let caller = auth::caller(&request)?;
        let precondition = precondition(request.headers())?;
        let bytes = body::read(&request, payload, body::OWNER_LIMIT).await?;
        let done = on_thread(&state, move |service| {
            let trust: Trust = body::parse(&bytes)?;
            Ok(service.put(&caller, Object::Trust(trust), &precondition)?)
        });
        Ok(registered(done.await?))
    };
    answer(&request, result.await)
}
