//! The owner API's freezes, which administrators have too.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::answer::uuid;
use super::holds::{ReasonBody, taken};
use super::once::{Answers, once};
use super::owner::{nothing, read_by, resource};
use super::page::{self, Cursor, Page};
use super::problem::{Kind, Problem};
use super::read::read_one_by;
use super::{State, body, impact, platforms};
use crate::domain::approval::Proposal;
use crate::domain::freeze::{Freeze, Target};
use crate::domain::token::Identity;
use crate::domain::{HexDigest, Name};
use crate::sev::Product;
use crate::store::{FreezeQuery, Frozen};

/// All that is asked for when something has gone wrong.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(
            resource("/freezes")
                .route(web::get().to(freezes))
                .route(web::post().to(freeze)),
        )
        .service(resource("/freezes/{id}").route(web::get().to(one)))
        .service(resource("/freezes/{id}/lift").route(web::post().to(lift)))
        .configure(platforms::routes)
        .configure(impact::routes);
}

/// What is to be frozen.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FreezeTarget {
    /// Every release of the server; for administrators.
    Server,
    /// Every release of an owner.
    Owner {
        /// The owner. Left out: the caller's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Name>,
    },
    /// Every release to a workload of the caller's.
    Workload {
        /// Its name or UUID.
        name: Name,
    },
    /// Every release of a secret of the caller's.
    Secret {
        /// Its name.
        name: Name,
    },
    /// Every release to platforms with this key.
    Platform {
        /// Fingerprint of a CEK, for one chip, or of an OCA, for an operator's.
        fingerprint: HexDigest,
    },
    /// Every release to platforms of a product.
    Product {
        /// naples, rome, milan, genoa or turin.
        name: Product,
    },
}

/// `POST /v1/freezes`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FreezeBody {
    /// What to freeze.
    pub target: FreezeTarget,
    /// Why, at most 4096 bytes.
    pub reason: String,
}

/// Something that is frozen.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct FreezeReply {
    /// The freeze.
    #[serde(flatten)]
    pub freeze: Freeze,
    /// Whether it was frozen before, by whom and why the freeze says; nothing was changed then.
    pub already: bool,
}

/// A freeze, or what is to become of it.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct LiftReply {
    /// The freeze as it is.
    #[serde(flatten)]
    pub freeze: Freeze,
    /// Its end, which waits for another person; null: it is lifted.
    pub proposal: Option<Proposal>,
}

/// A page of freezes, newest first: the caller's, and those of administrators that stop the caller's releases.
pub type FreezeList = Page<Freeze>;

impl FreezeTarget {
    fn of(self, by: &Identity) -> Result<Target, Problem> {
        Ok(match self {
            Self::Server => Target::Server,
            Self::Owner { name } => {
                let name = name.or_else(|| by.owner.clone()).ok_or_else(|| {
                    Problem::new(
                        Kind::Malformed,
                        "`target`: an administrator says which owner: `name`",
                    )
                })?;
                Target::Owner { name }
            }
            Self::Workload { name } => Target::Workload {
                uuid: name.as_str().parse().unwrap_or(Uuid::nil()),
                name,
            },
            Self::Secret { name } => Target::Secret { name },
            Self::Platform { fingerprint } => Target::Platform { fingerprint },
            Self::Product { name } => Target::Product { name },
        })
    }
}

/// Stops releases at once: `Service::freeze`.
async fn freeze(state: web::Data<State>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let how = (body::HOST_LIMIT, Answers::Kept);
    once(state, request, payload, how, |service, identity, bytes| {
        let FreezeBody { target, reason } = body::parse(bytes)?;
        let (status, freeze, already) = match service.freeze(identity, target.of(identity)?, &reason)? {
            Frozen::New(freeze) => (StatusCode::CREATED, freeze, false),
            Frozen::Already(freeze) => (StatusCode::OK, freeze, true),
            Frozen::Missing => return Err(nothing()),
        };
        Ok((status, FreezeReply { freeze, already }))
    })
    .await
}

/// What the query of `GET /v1/freezes` may have.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FreezeParameters {
    /// `next` of the page before. Left out: the first page.
    cursor: Option<Cursor>,
    /// Freezes on the page at most; 100 where it is left out.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    /// Only those that were not lifted.
    in_force: Option<bool>,
}

async fn freezes(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    const LIST: &str = "freezes";
    let may = "`cursor`, `limit` and `in_force`: true or false";
    let parameters = page::query::<FreezeParameters>(request.query_string(), may);
    read_by(state, request, move |service, identity| {
        let parameters = parameters?;
        let query = FreezeQuery {
            before: parameters.cursor.map(|cursor| cursor.number(LIST)).transpose()?,
            limit: page::limit(parameters.limit, page::USUAL)?,
            in_force: parameters.in_force.unwrap_or(false),
        };
        let page = service.store().freezes(identity.owner.as_ref(), query)?;
        Ok(FreezeList {
            items: page.freezes,
            next: page.next.map(|next| Cursor::after(LIST, next)),
        })
    })
    .await
}

async fn one(path: web::Path<String>, state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    read_one_by(state, request, move |service, identity| {
        let found = service.store().frozen(identity.owner.as_ref(), uuid(&path)?)?;
        found.ok_or_else(nothing)
    })
    .await
}

/// Lets releases go on: `Service::unfreeze`.
async fn lift(
    path: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let how = (body::HOST_LIMIT, Answers::Kept);
    once(state, request, payload, how, move |service, identity, bytes| {
        let ReasonBody { reason } = body::parse(bytes)?;
        let id = uuid(&path)?;
        let (lifted, proposal) = taken(service.unfreeze(identity, id, &reason)?)?;
        let freeze = match lifted {
            Some(freeze) => Some(freeze),
            None => service.store().frozen(identity.owner.as_ref(), id)?,
        };
        let freeze = freeze.ok_or_else(nothing)?;
        Ok((StatusCode::OK, LiftReply { freeze, proposal }))
    })
    .await
}
