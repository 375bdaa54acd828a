//! The owner API's versions of secrets: never a value.

use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{answer, on_thread};
use super::owner::{List, read, resource};
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

/// The versions of a secret, newest first.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct SecretVersionList {
    /// The versions, also those whose values were destroyed.
    pub items: Vec<SecretVersionInfo>,
}

/// `POST /v1/secret-versions/{name}`: goes back to a version.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretRollback {
    /// The version whose value is to be current again.
    pub version: u64,
}

async fn versions(name: web::Path<String>, state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    read(state, request, move |service, caller| {
        Ok(List {
            items: service.secret_versions(&caller.owner, &name)?,
        })
    })
    .await
}

async fn rollback(
    name: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let result = async {
        let caller = auth::caller(&request)?;
        let bytes = body::read(&request, payload, body::OWNER_LIMIT).await?;
        let done = on_thread(&state, move |service| {
            let SecretRollback { version } = body::parse(&bytes)?;
            Ok(service.rollback_secret(&caller, &name, version)?)
        });
        Ok(HttpResponse::Ok().json(done.await?.applied))
    };
    answer(&request, result.await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PurgeParameters {
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
