//! The owner API, `/v1`: what owners register, and what was decided.
//!
//! Every handler finds out first whose token it is; whatever is not the caller's does not exist.

use actix_web::{HttpRequest, HttpResponse, Resource, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::answer::{answer, method_not_allowed, on_thread, uuid};
use super::problem::{Kind, Problem};
use super::{State, apply, audit, auth, body, bundles, holds, objects, roles, signing_keys, tokens};
use crate::domain::Name;
use crate::domain::decision::{Decision, Outcome};
use crate::domain::object::{KeySetObject, Object};
use crate::domain::state::{Kind as ObjectKind, OwnerState, RegisteredWorkload};
use crate::domain::token::{Caller, Identity};
use crate::release::Service;
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
            .configure(bundles::routes)
            .configure(signing_keys::routes)
            .configure(tokens::routes)
            .configure(audit::routes)
            .configure(objects::routes)
            .service(resource("/decisions").route(web::get().to(decisions)))
            .service(resource("/decisions/{id}").route(web::get().to(decision)))
            .service(resource("/decisions/{id}/explanation").route(web::get().to(explanation)))
            .configure(holds::routes),
    );
}

/// A page of decisions, newest first.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct DecisionList {
    /// The decisions.
    pub items: Vec<Decision>,
    /// `before` of the next page; null: there is none.
    pub next: Option<i64>,
}

/// Registers and removes objects, all or none: [`Service::declare`].
async fn apply(state: web::Data<State>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let result = async {
        let caller = auth::caller(&request)?;
        let bytes = body::read(&request, payload, body::OWNER_LIMIT).await?;
        let applied = on_thread(&state, move |service| {
            let wish = apply::parse(&bytes)?;
            apply::permitted(&caller, &wish)?;
            Ok(service.declare(&caller, &wish, roles::may_remove)?)
        });
        Ok(HttpResponse::Ok().json(applied.await?))
    };
    answer(&request, result.await)
}

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

#[derive(Serialize)]
pub(super) struct List<T> {
    pub(super) items: Vec<T>,
}

/// Answers with one part of all that the caller registered.
async fn part<T: Serialize + Send + 'static>(
    state: web::Data<State>,
    request: HttpRequest,
    choose: impl FnOnce(OwnerState) -> Option<T> + Send + 'static,
) -> HttpResponse {
    read(state, request, move |service, caller| {
        choose(service.store().owner_state(&caller.owner)?).ok_or_else(nothing)
    })
    .await
}

pub(super) fn nothing() -> Problem {
    Problem::new(Kind::NotFound, "there is no such object")
}

async fn secrets(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    part(state, request, |all| Some(List { items: all.secrets })).await
}

async fn secret(name: web::Path<String>, state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    part(state, request, move |all| {
        all.secrets.into_iter().find(|s| s.name.as_str() == *name)
    })
    .await
}

async fn keysets(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    part(state, request, |all| Some(List { items: all.keysets })).await
}

async fn keyset(name: web::Path<String>, state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    part(state, request, move |all| {
        all.keysets.into_iter().find(|s| s.name.as_str() == *name)
    })
    .await
}

async fn firmware(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    part(state, request, |all| Some(List { items: all.firmware })).await
}

async fn one_firmware(
    name: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
) -> HttpResponse {
    part(state, request, move |all| {
        all.firmware.into_iter().find(|f| f.name.as_str() == *name)
    })
    .await
}

#[derive(Serialize)]
struct WorkloadView {
    #[serde(flatten)]
    workload: crate::domain::workload::Workload,
    accepted: Vec<crate::domain::workload::Candidate>,
}

fn view(registered: RegisteredWorkload) -> WorkloadView {
    WorkloadView {
        workload: registered.workload,
        accepted: registered.candidates,
    }
}

async fn workloads(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    part(state, request, |all| {
        Some(List {
            items: all.workloads.into_iter().map(view).collect(),
        })
    })
    .await
}

async fn workload(path: web::Path<String>, state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    let found = move |all: OwnerState| {
        all.workloads
            .into_iter()
            .find(|w| w.workload.uuid.to_string() == *path || w.workload.name.as_str() == *path)
    };
    part(state, request, move |all| found(all).map(view)).await
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
        let bytes = body::read(&request, payload, body::OWNER_LIMIT).await?;
        let applied = on_thread(&state, move |service| {
            let (inside, object) = parse(&bytes)?;
            if inside.is_some_and(|inside| inside.as_str() != *name) {
                return Err(Problem::new(
                    Kind::Malformed,
                    "`name`: is not the name in the path",
                ));
            }
            Ok(service.apply(&caller, vec![object])?)
        });
        Ok(HttpResponse::Ok().json(applied.await?))
    };
    answer(&request, result.await)
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
        on_thread(&state, move |service| Ok(service.remove(&caller, kind, &path)?)).await?;
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DecisionParameters {
    before: Option<i64>,
    limit: Option<u32>,
    outcome: Option<Outcome>,
    workload: Option<Uuid>,
}

async fn decisions(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    let parameters = web::Query::<DecisionParameters>::from_query(request.query_string());
    read(state, request, move |service, caller| {
        let parameters = parameters
            .map_err(|_| {
                Problem::new(
                    Kind::Malformed,
                    "the query may have `before`, `limit`, `outcome` and `workload`",
                )
            })?
            .into_inner();
        let query = DecisionQuery {
            before: parameters.before,
            limit: parameters.limit.unwrap_or(100),
            outcome: parameters.outcome,
            workload: parameters.workload,
        };
        let page = service.store().decisions(&caller.owner, &query)?;
        Ok(DecisionList {
            items: page.decisions,
            next: page.next,
        })
    })
    .await
}

async fn decision(path: web::Path<String>, state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    read(state, request, move |service, caller| {
        service
            .store()
            .decision(&caller.owner, uuid(&path)?)?
            .ok_or_else(nothing)
    })
    .await
}

/// Why a decision was taken: [`Service::explanation`].
async fn explanation(path: web::Path<String>, state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    read(state, request, move |service, caller| {
        let found = service.explanation(&caller.owner, uuid(&path)?)?;
        found.ok_or_else(nothing)
    })
    .await
}
