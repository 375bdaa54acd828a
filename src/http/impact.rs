//! The owner API's answer to what something that went wrong has touched.

use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::State;
use super::owner::{nothing, read, resource};
use super::page::{self, Cursor};
use super::problem::{Kind, Problem};
use crate::domain::impact::{Cause, Rotation, Touched};
use crate::domain::revision::Which;
use crate::domain::{HexDigest, Name};
use crate::release::Service;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.service(resource("/impact").route(web::get().to(impact)));
}

/// A page of launches that something which went wrong has touched, newest first.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct ImpactReply {
    /// The launches.
    pub items: Vec<Touched>,
    /// What is to be done because of the launches of this page; those of other pages may ask for more.
    pub rotation: Vec<Rotation>,
    /// `cursor` of the next page; null: there is none.
    pub next: Option<Cursor>,
}

/// What the query of `GET /v1/impact` may have: one cause, and a page.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImpactParameters {
    /// A secret, as NAME, or one version of it, as NAME@VERSION.
    secret: Option<String>,
    /// A platform: the fingerprint of its CEK, or of its operator's OCA.
    platform: Option<HexDigest>,
    /// A launch digest.
    digest: Option<HexDigest>,
    /// A policy: a revision's number, or a bundle's digest.
    policy: Option<String>,
    /// A workload, by its UUID or its name.
    workload: Option<String>,
    /// `next` of the page before. Left out: the first page.
    cursor: Option<Cursor>,
    /// Launches on the page at most; 100 where it is left out.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
}

fn malformed(why: &str) -> Problem {
    Problem::new(Kind::Malformed, why)
}

impl ImpactParameters {
    fn cause(&self, service: &Service, owner: &Name) -> Result<Cause, Problem> {
        let one = "the query has one of `secret` (NAME or NAME@VERSION), `platform` (a CEK's or OCA's fingerprint), `digest`, `policy` (a revision's number or a bundle's digest) and `workload`";
        match (
            &self.secret,
            self.platform,
            self.digest,
            &self.policy,
            &self.workload,
        ) {
            (Some(text), None, None, None, None) => secret(text),
            (None, Some(fingerprint), None, None, None) => Ok(Cause::Platform(fingerprint)),
            (None, None, Some(digest), None, None) => Ok(Cause::Digest(digest)),
            (None, None, None, Some(text), None) => policy(service, owner, text),
            (None, None, None, None, Some(text)) => workload(service, owner, text),
            _ => Err(malformed(one)),
        }
    }
}

fn secret(text: &str) -> Result<Cause, Problem> {
    let (name, version) = match text.split_once('@') {
        None => (text, None),
        Some((name, version)) => {
            let version = version
                .parse()
                .map_err(|_| malformed("`secret`: after @ stands a version, a number such as 3"))?;
            (name, Some(version))
        }
    };
    let name = name
        .parse()
        .map_err(|error| malformed(&format!("`secret`: {error}")))?;
    Ok(Cause::Secret { name, version })
}

fn policy(service: &Service, owner: &Name, text: &str) -> Result<Cause, Problem> {
    if let Ok(digest) = text.parse() {
        return Ok(Cause::Policy(digest));
    }
    let number = text
        .parse()
        .map_err(|_| malformed("`policy`: expected a revision's number or a bundle's digest"))?;
    let found = service.store().revision(owner, Which::Number(number))?;
    let found = found.ok_or_else(|| {
        Problem::new(
            Kind::NotFound,
            format!("there is no revision {number} of the policies"),
        )
    })?;
    Ok(Cause::Policy(found.revision.digest))
}

/// By its UUID, also one that was deleted; by its name, one that is there.
fn workload(service: &Service, owner: &Name, text: &str) -> Result<Cause, Problem> {
    if let Ok(uuid) = text.parse::<Uuid>() {
        return Ok(Cause::Workload(uuid));
    }
    let all = service.store().owner_state(owner)?.workloads;
    let found = all
        .into_iter()
        .find(|registered| registered.workload.name.as_str() == text);
    found
        .map(|registered| Cause::Workload(registered.workload.uuid))
        .ok_or_else(nothing)
}

async fn impact(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    const LIST: &str = "impact";
    let parameters = web::Query::<ImpactParameters>::from_query(request.query_string());
    read(state, request, move |service, caller| {
        let parameters = parameters.map_err(|error| malformed(&format!("the query: {error}")))?;
        let cause = parameters.cause(service, &caller.owner)?;
        let limit = page::limit(parameters.limit, page::USUAL)?;
        let before = parameters.cursor.as_ref();
        let before = before.map(|cursor| cursor.number(LIST)).transpose()?;
        let (page, rotation) = service.impact(&caller.owner, &cause, before, limit)?;
        Ok(ImpactReply {
            items: page.touched,
            rotation,
            next: page.next.map(|next| Cursor::after(LIST, next)),
        })
    })
    .await
}
