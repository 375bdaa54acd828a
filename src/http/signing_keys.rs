//! The owner API's keys that sign bundles.

use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{answer, on_thread};
use super::owner::{registered, resource};
use super::page::{self, Page};
use super::problem::{Kind, Problem};
use super::read::{listed, one, precondition};
use super::{State, auth, body};
use crate::domain::object::SigningKeyObject;
use crate::domain::revision::SigningKey;
use crate::domain::{Labels, Name};
use crate::policy::opa::SignatureAlgorithm;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(resource("/signing-keys").route(web::get().to(signing_keys)))
        .service(
            resource("/signing-keys/{name:.+}")
                .route(web::get().to(signing_key))
                .route(web::put().to(put_signing_key))
                .route(web::delete().to(delete_signing_key)),
        );
}

/// `PUT /v1/signing-keys/{name}`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SigningKeyBody {
    /// The public key, PEM.
    pub public_key: String,
    /// The only algorithm that it is used with. Left out: that of its curve, or RS256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<SignatureAlgorithm>,
    /// The scope that a signature must have been made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// What the owner sorts it by.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// The keys that sign an owner's bundles, by name. None: bundles need no signature.
pub type SigningKeyList = Page<SigningKey>;

async fn signing_keys(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    let name = |key: &SigningKey| key.name.to_string();
    listed(state, request, "signing-keys", |all| all.signing_keys, name).await
}

async fn signing_key(name: web::Path<String>, state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    one(state, request, move |all| {
        all.signing_keys
            .into_iter()
            .find(|key| key.name.as_str() == *name)
    })
    .await
}

async fn put_signing_key(
    name: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let result = async {
        let caller = auth::caller(&request)?;
        let precondition = precondition(request.headers())?;
        let bytes = body::read(&request, payload, body::OWNER_LIMIT).await?;
        let done = on_thread(&state, move |service| {
            let body: SigningKeyBody = body::parse(&bytes)?;
            let name: Name = name
                .parse()
                .map_err(|error| Problem::new(Kind::Malformed, format!("`name`: {error}")))?;
            let object = SigningKeyObject {
                name,
                public_key: body.public_key,
                algorithm: body.algorithm,
                scope: body.scope,
                labels: body.labels,
            };
            Ok(service.put_signing_key(&caller, &object, &precondition)?)
        });
        Ok(registered(done.await?))
    };
    answer(&request, result.await)
}

/// What the query of `DELETE /v1/signing-keys/{name}` may have.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RemoveParameters {
    /// Removes the only key too: from then on bundles need no signature.
    #[serde(default)]
    allow_unsigned: bool,
}

async fn delete_signing_key(
    path: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
) -> HttpResponse {
    let result = async {
        let caller = auth::caller(&request)?;
        let may = "`allow-unsigned`, true or false";
        let RemoveParameters { allow_unsigned } = page::query(request.query_string(), may)?;
        let precondition = precondition(request.headers())?;
        on_thread(&state, move |service| {
            Ok(service.remove_signing_key(&caller, &path, allow_unsigned, &precondition)?)
        })
        .await?;
        Ok(HttpResponse::NoContent().finish())
    };
    answer(&request, result.await)
}
