//! The owner API's freezes, which administrators have too.

use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::answer::{answer, on_thread, uuid};
use super::holds::{ReasonBody, taken};
use super::owner::{nothing, read_by, resource};
use super::problem::{Kind, Problem};
use super::{State, auth, body, impact, platforms};
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

/// A page of freezes, newest first.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct FreezeList {
    /// The freezes: the caller's, and those of administrators that stop the caller's releases.
    pub items: Vec<Freeze>,
    /// `before` of the next page; null: there is none.
    pub next: Option<i64>,
}

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
    let result = async {
        let identity = auth::identity(&request)?;
        let bytes = body::read(&request, payload, body::HOST_LIMIT).await?;
        let frozen = on_thread(&state, move |service| {
            let FreezeBody { target, reason } = body::parse(&bytes)?;
            Ok(service.freeze(&identity, target.of(&identity)?, &reason)?)
        });
        match frozen.await? {
            Frozen::New(freeze) => {
                let already = false;
                Ok(HttpResponse::Created().json(FreezeReply { freeze, already }))
            }
            Frozen::Already(freeze) => {
                let already = true;
                Ok(HttpResponse::Ok().json(FreezeReply { freeze, already }))
            }
            Frozen::Missing => Err(nothing()),
        }
    };
    answer(&request, result.await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FreezeParameters {
    before: Option<i64>,
    limit: Option<u32>,
    in_force: Option<bool>,
}

async fn freezes(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    let parameters = web::Query::<FreezeParameters>::from_query(request.query_string());
    read_by(state, request, move |service, identity| {
        let parameters = parameters.map_err(|_| {
            Problem::new(
                Kind::Malformed,
                "the query may have `before`, `limit` and `in_force`: true or false",
            )
        })?;
        let query = FreezeQuery {
            before: parameters.before,
            limit: parameters.limit.unwrap_or(100),
            in_force: parameters.in_force.unwrap_or(false),
        };
        let page = service.store().freezes(identity.owner.as_ref(), query)?;
        Ok(FreezeList {
            items: page.freezes,
            next: page.next,
        })
    })
    .await
}

async fn one(path: web::Path<String>, state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    read_by(state, request, move |service, identity| {
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
    let result = async {
        let identity = auth::identity(&request)?;
        let bytes = body::read(&request, payload, body::HOST_LIMIT).await?;
        let lifted = on_thread(&state, move |service| {
            let ReasonBody { reason } = body::parse(&bytes)?;
            let id = uuid(&path)?;
            let (lifted, proposal) = taken(service.unfreeze(&identity, id, &reason)?)?;
            let freeze = match lifted {
                Some(freeze) => Some(freeze),
                None => service.store().frozen(identity.owner.as_ref(), id)?,
            };
            let freeze = freeze.ok_or_else(nothing)?;
            Ok(LiftReply { freeze, proposal })
        });
        Ok(HttpResponse::Ok().json(lifted.await?))
    };
    answer(&request, result.await)
}
