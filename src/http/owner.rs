//! The owner API, `/v1`: what owners register, and what was decided.
//!
//! Every handler finds out first whose token it is; whatever is not the caller's does not exist.

use actix_web::http::StatusCode;
use actix_web::http::header::ETAG;
use actix_web::{HttpRequest, HttpResponse, Resource, web};
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use super::answer::{answer, method_not_allowed, on_thread, uuid};
use super::once::{Answers, once};
use super::page::{self, Cursor, Page};
use super::problem::{Kind, Problem};
use super::read::{listed, one, precondition};
pub(super) use super::read::{nothing, read, read_by, read_one};
use super::{State, apply, audit, auth, body, bundles, evaluation, freezes, holds, objects, roles};
use super::{secret_versions, signing_keys, tokens, trust};
use crate::domain::Name;
use crate::domain::decision::{Decision, Outcome};
use crate::domain::object::{KeySetObject, Object};
use crate::domain::state::Kind as ObjectKind;
use crate::release::register::Registered;
use crate::store::DecisionQuery;

/// A resource that knows what it can't do.
pub(super) fn resource(path: &str) -> Resource {
    web::resource(path.to_owned()).default_service(web::to(method_not_allowed))
}

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.service(
        web::scope("/v1")
            .service(resource("/apply").route(web::post().to(apply)))
            .service(resource("/secrets").route(web::get().to(secrets)))
            .service(
                resource("/secrets/{name:.+}")
                    .route(web::get().to(secret))
                    .route(web::put().to(put_secret))
                    .route(web::delete().to(delete_secret)),
            )
            .service(resource("/keysets").route(web::get().to(keysets)))
            .service(
                resource("/keysets/{name:.+}")
                    .route(web::get().to(keyset))
                    .route(web::put().to(put_keyset))
                    .route(web::delete().to(delete_keyset)),
            )
            .service(resource("/firmware").route(web::get().to(firmware)))
            .service(
                resource("/firmware/{name:.+}")
                    .route(web::get().to(one_firmware))
                    .route(web::put().to(put_firmware))
                    .route(web::delete().to(delete_firmware)),
            )
            .service(resource("/workloads").route(web::get().to(workloads)))
            .service(
                resource("/workloads/{uuid}")
                    .route(web::get().to(workload))
                    .route(web::delete().to(delete_workload)),
            )
            .configure(secret_versions::routes)
            .configure(bundles::routes)
            .configure(evaluation::routes)
            .configure(signing_keys::routes)
            .configure(trust::routes)
            .configure(tokens::routes)
            .configure(audit::routes)
            .configure(objects::routes)
            .service(resource("/decisions").route(web::get().to(decisions)))
            .service(resource("/decisions/{id}").route(web::get().to(decision)))
            .service(resource("/decisions/{id}/explanation").route(web::get().to(explanation)))
            .configure(holds::routes)
            .configure(freezes::routes),
    );
}

/// A page of decisions, newest first.
pub type DecisionList = Page<Decision>;

/// Registers and removes objects, all or none: [`Service::declare`](crate::release::Service::declare).
async fn apply(state: web::Data<State>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let how = (body::OWNER_LIMIT, Answers::Kept);
    once(state, request, payload, how, |service, identity, bytes| {
        let caller = auth::of_owner(identity.clone())?;
        let wish = apply::parse(bytes)?;
        apply::permitted(&caller, &wish)?;
        Ok((
            StatusCode::OK,
            service.declare(&caller, &wish, roles::may_remove)?,
        ))
    })
    .await
}

async fn secrets(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    listed(
        state,
        request,
        "secrets",
        |all| all.secrets,
        |s| s.name.to_string(),
    )
    .await
}

async fn secret(name: web::Path<String>, state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    one(state, request, move |all| {
        all.secrets.into_iter().find(|s| s.name.as_str() == *name)
    })
    .await
}

async fn keysets(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    listed(
        state,
        request,
        "keysets",
        |all| all.keysets,
        |s| s.name.to_string(),
    )
    .await
}

async fn keyset(name: web::Path<String>, state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    one(state, request, move |all| {
        all.keysets.into_iter().find(|s| s.name.as_str() == *name)
    })
    .await
}

async fn firmware(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    listed(
        state,
        request,
        "firmware",
        |all| all.firmware,
        |f| f.name.to_string(),
    )
    .await
}

async fn one_firmware(
    name: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
) -> HttpResponse {
    one(state, request, move |all| {
        all.firmware.into_iter().find(|f| f.name.as_str() == *name)
    })
    .await
}

async fn workloads(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    let name = |w: &crate::domain::state::RegisteredWorkload| w.workload.name.to_string();
    listed(state, request, "workloads", |all| all.workloads, name).await
}

async fn workload(path: web::Path<String>, state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    one(state, request, move |all| {
        all.workloads
            .into_iter()
            .find(|w| w.workload.uuid.to_string() == *path || w.workload.name.as_str() == *path)
    })
    .await
}

/// An object with the name that stands in it.
pub(super) type Named = (Option<Name>, Object);

/// Registers one object whose name is in the path.
pub(super) async fn put(
    name: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
    parse: fn(&[u8]) -> Result<Named, Problem>,
) -> HttpResponse {
    let result = async {
        let caller = auth::caller(&request)?;
        let precondition = precondition(request.headers())?;
        let bytes = body::read(&request, payload, body::OWNER_LIMIT).await?;
        let done = on_thread(&state, move |service| {
            let (inside, object) = parse(&bytes)?;
            if inside.is_some_and(|inside| inside.as_str() != *name) {
                return Err(Problem::new(
                    Kind::Malformed,
                    "`name`: is not the name in the path",
                ));
            }
            Ok(service.put(&caller, object, &precondition)?)
        });
        Ok(registered(done.await?))
    };
    answer(&request, result.await)
}

/// What was done with one object, and the tag of the state that it is in.
pub(super) fn registered(done: Registered) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    if let Some(etag) = done.etag {
        response.insert_header((ETAG, etag.quoted()));
    }
    response.json(done.applied)
}

async fn put_secret(
    name: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    put(name, state, request, payload, |bytes| {
        let object: crate::domain::object::SecretObject = body::parse(bytes)?;
        Ok((Some(object.name.clone()), Object::Secret(object)))
    })
    .await
}

async fn put_keyset(
    name: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    put(name, state, request, payload, |bytes| {
        let object: KeySetObject = body::parse(bytes)?;
        Ok((Some(object.name.clone()), Object::KeySet(object)))
    })
    .await
}

async fn put_firmware(
    name: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    put(name, state, request, payload, |bytes| {
        let object: crate::domain::object::FirmwareObject = body::parse(bytes)?;
        Ok((Some(object.name.clone()), Object::Firmware(object)))
    })
    .await
}

pub(super) async fn remove(
    path: String,
    kind: ObjectKind,
    state: web::Data<State>,
    request: HttpRequest,
) -> HttpResponse {
    let result = async {
        let caller = auth::caller(&request)?;
        let precondition = precondition(request.headers())?;
        on_thread(&state, move |service| {
            Ok(service.remove(&caller, kind, &path, &precondition)?)
        })
        .await?;
        Ok(HttpResponse::NoContent().finish())
    };
    answer(&request, result.await)
}

async fn delete_secret(
    path: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
) -> HttpResponse {
    remove(path.into_inner(), ObjectKind::Secret, state, request).await
}

async fn delete_keyset(
    path: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
) -> HttpResponse {
    remove(path.into_inner(), ObjectKind::KeySet, state, request).await
}

async fn delete_firmware(
    path: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
) -> HttpResponse {
    remove(path.into_inner(), ObjectKind::Firmware, state, request).await
}

async fn delete_workload(
    path: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
) -> HttpResponse {
    remove(path.into_inner(), ObjectKind::Workload, state, request).await
}

/// What the query of `GET /v1/decisions` may have.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DecisionParameters {
    /// `next` of the page before. Left out: the first page.
    cursor: Option<Cursor>,
    /// The same as a number, as earlier versions had it.
    before: Option<i64>,
    /// Decisions on the page at most; 100 where it is left out.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    /// With this outcome only.
    outcome: Option<Outcome>,
    /// Of the workload with this UUID only.
    workload: Option<Uuid>,
}

async fn decisions(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    const LIST: &str = "decisions";
    let may = "`cursor`, `limit`, `outcome` and `workload`";
    let parameters = page::query::<DecisionParameters>(request.query_string(), may);
    read(state, request, move |service, caller| {
        let parameters = parameters?;
        let cursor = parameters.cursor.map(|cursor| cursor.number(LIST)).transpose()?;
        let query = DecisionQuery {
            before: cursor.or(parameters.before),
            limit: page::limit(parameters.limit, page::USUAL)?,
            outcome: parameters.outcome,
            workload: parameters.workload,
        };
        let page = service.store().decisions(&caller.owner, &query)?;
        Ok(DecisionList {
            items: page.decisions,
            next: page.next.map(|next| Cursor::after(LIST, next)),
        })
    })
    .await
}

async fn decision(path: web::Path<String>, state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    read_one(state, request, move |service, caller| {
        service
            .store()
            .decision(&caller.owner, uuid(&path)?)?
            .ok_or_else(nothing)
    })
    .await
}

/// Why a decision was taken: [`Service::explanation`](crate::release::Service::explanation).
async fn explanation(path: web::Path<String>, state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    read(state, request, move |service, caller| {
        let found = service.explanation(&caller.owner, uuid(&path)?)?;
        found.ok_or_else(nothing)
    })
    .await
}
