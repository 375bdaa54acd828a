//! The owner API's versions of secrets: never a value.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{answer, on_thread};
use super::once::{Answers, once};
use super::owner::{read, resource};
use super::page::{ListParameters, Page};
use super::problem::{Kind, Problem};
use super::{State, auth, body};
use crate::domain::secret_version::SecretVersionInfo;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    // Not below `/secrets/{name}`: a name has slashes, and one that ends in `/versions` is a name.
    config.service(
        resource("/secret-versions/{name:.+}")
            .route(web::get().to(versions))
            .route(web::post().to(rollback))
            .route(web::delete().to(purge)),
    );
}

/// The versions of a secret, newest first, also those whose values were destroyed.
pub type SecretVersionList = Page<SecretVersionInfo>;

/// `POST /v1/secret-versions/{name}`: goes back to a version.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretRollback {
    /// The version whose value is to be current again.
    pub version: u64,
}

async fn versions(name: web::Path<String>, state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    let parameters = ListParameters::read(request.query_string());
    read(state, request, move |service, caller| {
        let versions = service.secret_versions(&caller.owner, &name)?;
        // Twenty digits hold every version, so that texts are in the order of the numbers.
        parameters?.newest_first("secret-versions", versions, |one| format!("{:020}", one.version))
    })
    .await
}

async fn rollback(
    name: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let how = (body::OWNER_LIMIT, Answers::Kept);
    once(state, request, payload, how, move |service, identity, bytes| {
        let caller = auth::of_owner(identity.clone())?;
        let SecretRollback { version } = body::parse(bytes)?;
        let done = service.rollback_secret(&caller, &name, version)?;
        Ok((StatusCode::OK, done.applied))
    })
    .await
}

/// What the query of `DELETE /v1/secret-versions/{name}` must have.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PurgeParameters {
    /// The version whose value is destroyed.
    version: u64,
}

async fn purge(name: web::Path<String>, state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    let result = async {
        let caller = auth::caller(&request)?;
        let parameters = web::Query::<PurgeParameters>::from_query(request.query_string());
        let PurgeParameters { version } = parameters
            .map_err(|_| {
                Problem::new(
                    Kind::Malformed,
                    "the query must have `version`, a number, and nothing else",
                )
            })?
            .into_inner();
        on_thread(&state, move |service| {
            Ok(service.purge_secret(&caller, &name, version)?)
        })
        .await?;
        Ok(HttpResponse::NoContent().finish())
    };
    answer(&request, result.await)
}
