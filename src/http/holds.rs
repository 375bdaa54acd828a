//! The owner API's holds, limits, and the number of people that an owner asks for.

use actix_web::http::StatusCode;
use actix_web::http::header::ETAG;
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::answer::{answer, on_thread, uuid};
use super::once::{Answers, once};
use super::owner::{nothing, read, read_one, resource};
use super::page::{self, Cursor, ListParameters, Page};
use super::problem::{Kind, Problem};
use super::read::{precondition, tag};
use super::{State, auth, body};
use crate::domain::approval::{Approvals, Count, Proposal, Reset};
use crate::domain::hold::{Confirm, Hold, HoldState};
use crate::domain::launch::Binding;
use crate::domain::token::Caller;
use crate::domain::{HexDigest, Name};
use crate::release::{Service, WordError};
use crate::store::{HoldQuery, Taken};

/// Resets that are listed beside the counts.
const RESETS: u32 = 100;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(resource("/holds").route(web::get().to(holds)))
        .service(resource("/holds/{id}").route(web::get().to(hold)))
        .service(resource("/holds/{id}/confirm").route(web::post().to(confirm)))
        .service(resource("/holds/{id}/reject").route(web::post().to(reject)))
        .service(resource("/holds/{id}/withdraw").route(web::post().to(withdraw)))
        .service(resource("/limits").route(web::get().to(limits)))
        .service(resource("/limits/reset").route(web::post().to(reset)))
        .service(
            resource("/approvals")
                .route(web::get().to(approvals))
                .route(web::put().to(require)),
        );
}

/// A page of holds, newest first.
pub type HoldList = Page<Hold>;

/// `POST /v1/holds/{id}/confirm`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmBody {
    /// How many releases beyond the limit, from 1 to 1000000.
    pub additional: u64,
    /// For any guest of the workload. Left out: for the hold's one launch digest and CEK.
    #[serde(default)]
    pub any: bool,
    /// Which guest, where the hold lists several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_digest: Option<HexDigest>,
    /// Which chip, by its CEK's fingerprint, where the hold lists several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cek: Option<HexDigest>,
    /// Why, at most 4096 bytes.
    pub reason: String,
}

/// `POST /v1/holds/{id}/reject` and `POST /v1/holds/{id}/withdraw`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasonBody {
    /// Why, at most 4096 bytes.
    pub reason: String,
}

/// Counts, and what was done about them.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct LimitList {
    /// Counts, by secret.
    pub items: Vec<Count>,
    /// The last that were lowered, newest first.
    pub resets: Vec<Reset>,
    /// What one person proposed and another must approve of.
    pub proposals: Vec<Proposal>,
    /// `cursor` of the next page of counts; null: there is none.
    pub next: Option<Cursor>,
}

/// `POST /v1/limits/reset`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetBody {
    /// What the count counts in. `name` is empty for the owner's, and a workload's UUID.
    pub binding: Binding,
    /// The secret.
    pub secret: Name,
    /// The new count, below what it is; any number where the count is not known. Left out: 0.
    #[serde(default)]
    pub to: u64,
    /// Why, at most 4096 bytes.
    pub reason: String,
}

/// What came of a reset.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct ResetReply {
    /// It was done; null: it waits for another person.
    pub reset: Option<Reset>,
    /// What waits for another person.
    pub proposal: Option<Proposal>,
}

/// `PUT /v1/approvals`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalsBody {
    /// 1 or 2.
    pub approvals_required: u8,
    /// Whether as many register what decides over releases: bundles, bound policies, workloads, key sets, signing keys.
    #[serde(default)]
    pub policies: bool,
    /// Why, at most 4096 bytes.
    pub reason: String,
}

/// How many people an owner asks for.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct ApprovalsReply {
    /// What counts now.
    #[serde(flatten)]
    pub approvals: Approvals,
    /// A change that waits for another person.
    pub proposal: Option<Proposal>,
}

impl From<WordError> for Problem {
    fn from(error: WordError) -> Self {
        match error {
            WordError::Malformed { .. } => Self::new(Kind::Malformed, error.to_string()),
            WordError::Store(error) => error.into(),
        }
    }
}

/// Takes a person's word in a body.
pub(super) async fn say<B: DeserializeOwned, T: Serialize + Send + 'static>(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
    work: impl FnOnce(&Service, &Caller, B) -> Result<T, Problem> + Send + 'static,
) -> HttpResponse {
    let how = (body::HOST_LIMIT, Answers::Kept);
    once(state, request, payload, how, |service, identity, bytes| {
        let caller = auth::of_owner(identity.clone())?;
        let body: B = body::parse(bytes)?;
        Ok((StatusCode::OK, work(service, &caller, body)?))
    })
    .await
}

/// What was done, or what waits for another person.
pub(super) fn taken<T>(taken: Taken<T>) -> Result<(Option<T>, Option<Proposal>), Problem> {
    match taken {
        Taken::Done(done) => Ok((Some(done), None)),
        Taken::Pending(proposal) => Ok((None, Some(proposal))),
        Taken::Missing => Err(nothing()),
        Taken::Refused(why) => Err(Problem::new(Kind::WrongState, why)),
        Taken::Stale => Err(Problem::new(
            Kind::PreconditionFailed,
            "it was changed since it was read: read it again, and decide anew",
        )),
    }
}

fn settled(hold: Taken<Hold>) -> Result<Hold, Problem> {
    taken(hold)?.0.ok_or_else(nothing)
}

/// What the query of `GET /v1/holds` may have.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HoldParameters {
    /// `next` of the page before. Left out: the first page.
    cursor: Option<Cursor>,
    /// The same as a number, as earlier versions had it.
    before: Option<i64>,
    /// Holds on the page at most; 100 where it is left out.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    /// In this state only.
    state: Option<HoldState>,
}

async fn holds(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    const LIST: &str = "holds";
    let may = "`cursor`, `limit` and `state`: open, pending, confirmed, rejected or closed";
    let parameters = page::query::<HoldParameters>(request.query_string(), may);
    read(state, request, move |service, caller| {
        let parameters = parameters?;
        let cursor = parameters.cursor.map(|cursor| cursor.number(LIST)).transpose()?;
        let query = HoldQuery {
            before: cursor.or(parameters.before),
            limit: page::limit(parameters.limit, page::USUAL)?,
            state: parameters.state,
        };
        let page = service.store().holds(&caller.owner, query)?;
        Ok(HoldList {
            items: page.holds,
            next: page.next.map(|next| Cursor::after(LIST, next)),
        })
    })
    .await
}

async fn hold(path: web::Path<String>, state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    read_one(state, request, move |service, caller| {
        let found = service.store().hold(&caller.owner, uuid(&path)?)?;
        found.ok_or_else(nothing)
    })
    .await
}

/// Lets releases be made beyond the limit: [`Service::confirm_hold`].
async fn confirm(
    path: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    say(
        state,
        request,
        payload,
        move |service, caller, body: ConfirmBody| {
            let asked = Confirm {
                additional: body.additional,
                any: body.any,
                launch_digest: body.launch_digest,
                cek: body.cek,
            };
            settled(service.confirm_hold(caller, uuid(&path)?, asked, &body.reason)?)
        },
    )
    .await
}

async fn reject(
    path: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    say(
        state,
        request,
        payload,
        move |service, caller, body: ReasonBody| {
            settled(service.reject_hold(caller, uuid(&path)?, &body.reason)?)
        },
    )
    .await
}

async fn withdraw(
    path: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    say(
        state,
        request,
        payload,
        move |service, caller, body: ReasonBody| {
            settled(service.withdraw_hold(caller, uuid(&path)?, &body.reason)?)
        },
    )
    .await
}

async fn limits(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    let parameters = ListParameters::read(request.query_string());
    read(state, request, |service, caller| {
        let mut counts = service.store().limits(&caller.owner, RESETS, service.now())?;
        let key = |count: &Count| {
            let Binding { kind, name } = &count.binding;
            format!("{} {} {name}", count.secret, kind.as_str())
        };
        counts.counts.sort_by_key(key);
        let Page { items, next } = parameters?.page("limits", counts.counts, key)?;
        Ok(LimitList {
            items,
            resets: counts.resets,
            proposals: counts.proposals,
            next,
        })
    })
    .await
}

/// Lowers a count: [`Service::reset_limit`].
async fn reset(state: web::Data<State>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    say(state, request, payload, |service, caller, body: ResetBody| {
        let done = service.reset_limit(caller, body.binding, body.secret, body.to, &body.reason)?;
        let (reset, proposal) = taken(done)?;
        Ok(ResetReply { reset, proposal })
    })
    .await
}

async fn approvals(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    read_one(state, request, |service, caller| {
        Ok(service.store().approvals(&caller.owner)?)
    })
    .await
}

/// Changes how many people are asked for: [`Service::require_approvals`].
async fn require(state: web::Data<State>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let result = async {
        let caller = auth::caller(&request)?;
        let precondition = precondition(request.headers())?;
        let bytes = body::read(&request, payload, body::HOST_LIMIT).await?;
        let done = on_thread(&state, move |service| {
            let body: ApprovalsBody = body::parse(&bytes)?;
            let (people, policies) = (body.approvals_required, body.policies);
            let done = service.require_approvals(&caller, people, policies, &body.reason, &precondition)?;
            let (changed, proposal) = taken(done)?;
            let approvals = match changed {
                Some(changed) => changed,
                None => service.store().approvals(&caller.owner)?,
            };
            Ok((tag(&approvals)?, ApprovalsReply { approvals, proposal }))
        });
        let (etag, reply) = done.await?;
        Ok(HttpResponse::Ok()
            .insert_header((ETAG, etag.quoted()))
            .json(reply))
    };
    answer(&request, result.await)
}
