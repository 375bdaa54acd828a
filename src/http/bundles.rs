//! The owner API's policies: bundles, and their revisions.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{answer, on_thread};
use super::once::{Answers, once};
use super::owner::{nothing, put, read, read_one, resource};
use super::page::{self, Cursor, ListParameters, Page};
use super::problem::{Kind, Problem};
use super::read::read_tagged;
use super::{State, auth, body};
use crate::domain::etag::ETag;
use crate::domain::object::{Action, Object, PolicyBundleObject};
use crate::domain::revision::{Revision, Which};
use crate::domain::token::Caller;
use crate::domain::{Base64Bytes, HexDigest, Time};
use crate::policy::Bundle;
use crate::policy::opa;
use crate::release::Service;
use crate::release::register::{RegisterError, Registered, Said, bundle_etag};

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(
            resource("/bundles")
                .route(web::get().to(bundles))
                .route(web::post().to(push)),
        )
        .service(
            resource("/bundles/active")
                .route(web::get().to(active_bundle))
                .route(web::put().to(put_bundle)),
        )
        .service(resource("/bundles/{digest}").route(web::get().to(bundle)))
        .service(resource("/bundles/{digest}/archive").route(web::get().to(bundle_archive)))
        .service(
            resource("/revisions")
                .route(web::get().to(revisions))
                .route(web::post().to(roll_back)),
        )
        .service(resource("/revisions/{number}").route(web::get().to(revision)))
        .service(resource("/revisions/{number}/archive").route(web::get().to(revision_archive)));
}

/// Bundles that were ever active, newest first.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct BundleList {
    /// Digest of the active one.
    pub active: Option<HexDigest>,
    /// The bundles.
    pub items: Vec<BundleEntry>,
    /// `cursor` of the next page; null: there is none.
    pub next: Option<Cursor>,
}

/// One bundle of the list.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct BundleEntry {
    /// Its digest.
    pub digest: HexDigest,
    /// When it last became active.
    pub activated: Time,
}

/// `POST /v1/bundles`: makes a bundle the active one.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PushBody {
    /// Path in the bundle to content; `.signatures.json` is its signature.
    pub files: BTreeMap<String, Base64Bytes>,
    /// Policies that every release of this owner must satisfy. Left out: those bound now stay bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policies: Option<Vec<String>>,
    /// Why, at most 4096 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where it is from, such as a commit, at most 256 bytes. Left out: `vcs_revision` of the manifest's
    /// `metadata`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Only says what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// `POST /v1/revisions`: makes the bundle of an earlier revision the active one again.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackBody {
    /// Number of the revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// Or the bundle's digest; the newest revision with it is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<HexDigest>,
    /// Why, at most 4096 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Only says what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a push or a rollback did.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct PushReply {
    /// The bundle's digest.
    pub digest: HexDigest,
    /// `unchanged`: it is the active one already.
    pub action: Action,
    /// The revision that it is; null where it was active already.
    pub revision: Option<Revision>,
    /// What will not work as registered, though it may be meant.
    pub warnings: Vec<String>,
}

/// A page of revisions, newest first.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct RevisionList {
    /// Number of the active one.
    pub active: Option<u64>,
    /// The revisions.
    pub items: Vec<Revision>,
    /// `cursor` of the next page; null: there is none.
    pub next: Option<Cursor>,
}

async fn bundles(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    let parameters = ListParameters::read(request.query_string());
    read(state, request, |service, caller| {
        let active = service.store().owner_state(&caller.owner)?.bundle;
        let all = service.store().bundles(&caller.owner)?.into_iter();
        let items = all.map(|(digest, activated)| BundleEntry { digest, activated });
        let key = |entry: &BundleEntry| format!("{:020} {}", entry.activated.millis(), entry.digest);
        let Page { items, next } = parameters?.newest_first("bundles", items.collect(), key)?;
        Ok(BundleList { active, items, next })
    })
    .await
}

/// Checks a bundle as a whole and makes it the active one: [`Service::push`].
async fn push(state: web::Data<State>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    activate(state, request, payload, |service, caller, body: PushBody| {
        let bundle = PolicyBundleObject {
            files: body.files,
            digest: None,
            policies: body.policies,
        };
        let said = Said {
            message: body.message.as_deref(),
            source: body.source.as_deref(),
            dry_run: body.dry_run,
        };
        Ok((service.push(caller, &bundle, said)?, body.dry_run))
    })
    .await
}

/// Goes back to an earlier revision: [`Service::roll_back`].
async fn roll_back(state: web::Data<State>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    activate(state, request, payload, |service, caller, body: RollbackBody| {
        let which = match (body.number, body.digest) {
            (Some(number), None) => Which::Number(number),
            (None, Some(digest)) => Which::Digest(digest),
            _ => {
                let why = "expected either `number` or `digest` of the revision to go back to";
                return Err(Problem::new(Kind::Malformed, why));
            }
        };
        let said = Said {
            message: body.message.as_deref(),
            source: None,
            dry_run: body.dry_run,
        };
        let done = service.roll_back(caller, which, said);
        let done = done.map_err(|error| match error {
            RegisterError::NotFound => no_revision(),
            other => other.into(),
        })?;
        Ok((done, body.dry_run))
    })
    .await
}

/// What was registered, and whether it was only said.
type Activation = Result<(Registered, bool), Problem>;

/// 201 where a revision was made, 200 where not.
async fn activate<B: serde::de::DeserializeOwned + Send + 'static>(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
    work: fn(&Service, &Caller, B) -> Activation,
) -> HttpResponse {
    let how = (body::OWNER_LIMIT, Answers::Kept);
    once(state, request, payload, how, move |service, identity, bytes| {
        let caller = auth::of_owner(identity.clone())?;
        let (done, dry_run) = work(service, &caller, body::parse(bytes)?)?;
        let change = done.applied.changes.first();
        let change = change.ok_or_else(|| Problem::new(Kind::Unavailable, "nothing was registered"))?;
        let reply = PushReply {
            digest: change.name.parse().map_err(|_| nothing())?,
            action: change.action,
            revision: done.revision,
            warnings: done.applied.warnings,
        };
        let made = reply.revision.is_some() && !dry_run;
        let status = if made { StatusCode::CREATED } else { StatusCode::OK };
        Ok((status, reply))
    })
    .await
}

async fn put_bundle(state: web::Data<State>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let unnamed = web::Path::from(String::new());
    put(unnamed, state, request, payload, |bytes| {
        Ok((
            None,
            Object::PolicyBundle(body::parse::<PolicyBundleObject>(bytes)?),
        ))
    })
    .await
}

/// A bundle.
#[derive(Serialize, JsonSchema)]
pub(super) struct BundleView {
    /// Its digest.
    digest: HexDigest,
    /// Whether it is the active one.
    active: bool,
    /// Policies bound to the owner, where it is.
    policies: Vec<String>,
    /// Path in the bundle to content, as text.
    files: BTreeMap<String, String>,
}

async fn active_bundle(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    read_tagged(state, request, |service, caller| {
        bundle_view(service, caller, None)
    })
    .await
}

async fn bundle(path: web::Path<String>, state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    read_tagged(state, request, move |service, caller| {
        let digest = path.parse().map_err(|_| nothing())?;
        bundle_view(service, caller, Some(digest))
    })
    .await
}

/// A bundle with its files as text; every one that was ever active can be had.
fn bundle_view(
    service: &Service,
    caller: &Caller,
    digest: Option<HexDigest>,
) -> Result<(ETag, BundleView), Problem> {
    let state = service.store().owner_state(&caller.owner)?;
    let digest = digest.or(state.bundle).ok_or_else(nothing)?;
    let bundle = stored(service, caller, digest)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let files = bundle
        .files()
        .map(|(path, bytes)| (path.to_owned(), text(bytes)))
        .collect();
    let active = state.bundle == Some(digest);
    let policies = if active { state.policies } else { Vec::new() };
    let etag = bundle_etag(&digest, active, &policies);
    let etag = etag.map_err(|error| Problem::new(Kind::Unavailable, error.to_string()))?;
    let view = BundleView {
        digest,
        active,
        policies,
        files,
    };
    Ok((etag, view))
}

fn stored(service: &Service, caller: &Caller, digest: HexDigest) -> Result<Bundle, Problem> {
    let archive = service.store().bundle(&caller.owner, digest)?;
    Bundle::from_archive(&archive.ok_or_else(nothing)?)
        .map_err(|_| Problem::new(Kind::Unavailable, "the stored bundle is damaged"))
}

async fn bundle_archive(
    path: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
) -> HttpResponse {
    let which = path.parse().map(Which::Digest).map_err(|_| nothing());
    archive(which, state, request).await
}

async fn revision_archive(
    path: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
) -> HttpResponse {
    archive(number(&path), state, request).await
}

/// The bundle of a revision as OPA has it, with the signature it came with.
async fn archive(
    which: Result<Which, Problem>,
    state: web::Data<State>,
    request: HttpRequest,
) -> HttpResponse {
    let result = async {
        let caller = auth::caller(&request)?;
        let which = which?;
        let (digest, bytes) = on_thread(&state, move |service| {
            let found = service.store().revision(&caller.owner, which)?;
            let found = found.ok_or_else(no_revision)?;
            let digest = found.revision.digest;
            let bundle = stored(service, &caller, digest)?;
            let file = |(path, bytes): (&str, &[u8])| (path.to_owned(), bytes.to_vec());
            let mut files: BTreeMap<_, _> = bundle.files().map(file).collect();
            if let Some(signatures) = found.signatures {
                files.insert(opa::SIGNATURES.to_owned(), signatures);
            }
            let packed = opa::pack(&files);
            let packed = packed.map_err(|error| Problem::new(Kind::Unavailable, error.to_string()))?;
            Ok((digest, packed))
        })
        .await?;
        let name = format!("attachment; filename=\"{digest}.tar.gz\"");
        Ok(HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, "application/gzip"))
            .insert_header((CONTENT_DISPOSITION, name))
            .body(bytes))
    };
    answer(&request, result.await)
}

/// What the query of `GET /v1/revisions` may have.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RevisionParameters {
    /// `next` of the page before. Left out: the first page.
    cursor: Option<Cursor>,
    /// Of numbers below this one, as earlier versions had it.
    before: Option<u64>,
    /// Revisions on the page at most; 100 where it is left out.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
}

async fn revisions(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    const LIST: &str = "revisions";
    let may = "`cursor`, and the numbers `before` and `limit`";
    let parameters = page::query::<RevisionParameters>(request.query_string(), may);
    read(state, request, move |service, caller| {
        let parameters = parameters?;
        let limit = page::limit(parameters.limit, page::USUAL)?;
        let cursor = parameters.cursor.map(|cursor| cursor.number(LIST)).transpose()?;
        let before = cursor.or(parameters.before);
        let store = service.store();
        // One more than is shown says whether there is another page.
        let mut items = store.revisions(&caller.owner, before, limit + 1)?;
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let active = match before {
            None => items.first().map(|newest| newest.number),
            Some(_) => Some(store.owner_state(&caller.owner)?.revision).filter(|number| *number > 0),
        };
        let last = items.last().filter(|_| more);
        let next = last.map(|last| Cursor::after(LIST, last.number));
        Ok(RevisionList { active, items, next })
    })
    .await
}

async fn revision(path: web::Path<String>, state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    read_one(state, request, move |service, caller| {
        let found = service.store().revision(&caller.owner, number(&path)?)?;
        Ok(found.ok_or_else(no_revision)?.revision)
    })
    .await
}

fn number(path: &str) -> Result<Which, Problem> {
    path.parse().map(Which::Number).map_err(|_| no_revision())
}

fn no_revision() -> Problem {
    Problem::new(Kind::NotFound, "there is no such revision")
}
