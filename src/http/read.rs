//! Answers with something read for the caller, and the entity tags of single objects.

use actix_web::http::header::{ETAG, HeaderMap, IF_MATCH, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::answer::{answer, on_thread};
use super::page::{ListParameters, Page};
use super::problem::{Kind, Problem};
use super::{State, auth};
use crate::domain::etag::{ETag, Precondition, Tags};
use crate::domain::state::OwnerState;
use crate::domain::token::{Caller, Identity};
use crate::release::Service;
use crate::store::StoreError;

/// Answers with something read for the caller.
pub(super) async fn read<T: Serialize + Send + 'static>(
    state: web::Data<State>,
    request: HttpRequest,
    work: impl FnOnce(&Service, &Caller) -> Result<T, Problem> + Send + 'static,
) -> HttpResponse {
    let result = async {
        let caller = auth::caller(&request)?;
        let found = on_thread(&state, move |service| work(service, &caller)).await?;
        Ok(HttpResponse::Ok().json(found))
    };
    answer(&request, result.await)
}

/// The same for what administrators, who have no owner, read too.
pub(super) async fn read_by<T: Serialize + Send + 'static>(
    state: web::Data<State>,
    request: HttpRequest,
    work: impl FnOnce(&Service, &Identity) -> Result<T, Problem> + Send + 'static,
) -> HttpResponse {
    let result = async {
        let identity = auth::identity(&request)?;
        let found = on_thread(&state, move |service| work(service, &identity)).await?;
        Ok(HttpResponse::Ok().json(found))
    };
    answer(&request, result.await)
}

/// Answers with one object, under the tag of all that is shown of it.
pub(super) async fn read_one<T: Serialize + Send + 'static>(
    state: web::Data<State>,
    request: HttpRequest,
    work: impl FnOnce(&Service, &Caller) -> Result<T, Problem> + Send + 'static,
) -> HttpResponse {
    read_tagged(state, request, |service, caller| {
        let found = work(service, caller)?;
        Ok((tag(&found)?, found))
    })
    .await
}

/// The same for what administrators, who have no owner, read too.
pub(super) async fn read_one_by<T: Serialize + Send + 'static>(
    state: web::Data<State>,
    request: HttpRequest,
    work: impl FnOnce(&Service, &Identity) -> Result<T, Problem> + Send + 'static,
) -> HttpResponse {
    let identity = auth::identity(&request);
    tagged(state, request, identity, |service, identity| {
        let found = work(service, identity)?;
        Ok((tag(&found)?, found))
    })
    .await
}

/// Answers with one object under a tag, or with 304 where the caller has it as it is.
pub(super) async fn read_tagged<T: Serialize + Send + 'static>(
    state: web::Data<State>,
    request: HttpRequest,
    work: impl FnOnce(&Service, &Caller) -> Result<(ETag, T), Problem> + Send + 'static,
) -> HttpResponse {
    let caller = auth::caller(&request);
    tagged(state, request, caller, work).await
}

async fn tagged<C: Send + 'static, T: Serialize + Send + 'static>(
    state: web::Data<State>,
    request: HttpRequest,
    caller: Result<C, Problem>,
    work: impl FnOnce(&Service, &C) -> Result<(ETag, T), Problem> + Send + 'static,
) -> HttpResponse {
    let result = async {
        let caller = caller?;
        let precondition = precondition(request.headers())?;
        let (etag, found) = on_thread(&state, move |service| work(service, &caller)).await?;
        let known = Precondition {
            if_match: None,
            if_none_match: precondition.if_none_match,
        };
        let mut response = match known.holds(Some(&etag)) {
            true => HttpResponse::Ok(),
            false => HttpResponse::NotModified(),
        };
        response.insert_header((ETAG, etag.quoted()));
        Ok(match known.holds(Some(&etag)) {
            true => response.json(found),
            false => response.finish(),
        })
    };
    answer(&request, result.await)
}

/// Answers with a page of one part of all that the caller registered, by name.
pub(super) async fn listed<T: Serialize + Send + 'static>(
    state: web::Data<State>,
    request: HttpRequest,
    list: &'static str,
    choose: fn(OwnerState) -> Vec<T>,
    name: fn(&T) -> String,
) -> HttpResponse {
    let parameters = ListParameters::read(request.query_string());
    read(
        state,
        request,
        move |service, caller| -> Result<Page<T>, Problem> {
            let items = choose(service.store().owner_state(&caller.owner)?);
            parameters?.page(list, items, name)
        },
    )
    .await
}

/// Answers with one of all objects that the caller registered.
pub(super) async fn one<T: Serialize + Send + 'static>(
    state: web::Data<State>,
    request: HttpRequest,
    choose: impl FnOnce(OwnerState) -> Option<T> + Send + 'static,
) -> HttpResponse {
    read_one(state, request, move |service, caller| {
        choose(service.store().owner_state(&caller.owner)?).ok_or_else(nothing)
    })
    .await
}

pub(super) fn nothing() -> Problem {
    Problem::new(Kind::NotFound, "there is no such object")
}

/// The tag of what is shown.
///
/// # Errors
/// When it can't be written as JSON.
pub(super) fn tag<T: Serialize>(shown: &T) -> Result<ETag, Problem> {
    ETag::of(shown).map_err(|error| {
        let (what, why) = ("an object", error.to_string());
        StoreError::Damaged { what, why }.into()
    })
}

/// What a request's headers demand of the state of what it is about.
///
/// # Errors
/// When a header is none of tags.
pub(super) fn precondition(headers: &HeaderMap) -> Result<Precondition, Problem> {
    let tags = |name| {
        // Several headers of one name are one with commas between.
        let texts: Vec<_> = headers.get_all(&name).map(|value| value.to_str()).collect();
        if texts.is_empty() {
            return Ok(None);
        }
        let text = texts.into_iter().collect::<Result<Vec<_>, _>>().ok();
        let tags = text.and_then(|texts| texts.join(",").parse::<Tags>().ok());
        let why = || format!("`{name}`: {}", crate::domain::etag::TagsError);
        tags.map(Some).ok_or_else(|| Problem::new(Kind::Malformed, why()))
    };
    Ok(Precondition {
        if_match: tags(IF_MATCH)?,
        if_none_match: tags(IF_NONE_MATCH)?,
    })
}
