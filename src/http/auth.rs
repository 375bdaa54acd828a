//! Who an owner's request is from: bearer tokens, looked up by their hash.

use actix_web::http::header::AUTHORIZATION;
use actix_web::{HttpRequest, web};

use super::State;
use super::problem::{Kind, Problem};
use crate::domain::token::{Caller, Token};

/// The caller behind the request's token. Asked for before a body is read.
pub(super) async fn caller(request: &HttpRequest, state: &web::Data<State>) -> Result<Caller, Problem> {
    let unauthorized = || {
        Problem::new(
            Kind::Unauthorized,
            "there is no valid bearer token in this request",
        )
    };
    let header = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let (scheme, text) = header
        .and_then(|text| text.split_once(' '))
        .ok_or_else(unauthorized)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unauthorized());
    }
    let token: Token = text.trim().parse().map_err(|_| unauthorized())?;
    let (service, hash) = (state.service.clone(), token.hash());
    let found = web::block(move || service.store().caller(hash)).await??;
    found.ok_or_else(unauthorized)
}
