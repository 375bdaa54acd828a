//! The owner API's inventory of platforms, and what the owner says of each.

use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{answer, on_thread};
use super::holds::{ReasonBody, say, taken};
use super::owner::{nothing, read, read_one, resource};
use super::page::{self, Cursor, ListParameters};
use super::problem::Problem;
use super::{State, auth, body};
use crate::domain::HexDigest;
use crate::domain::approval::{Proposal, Word};
use crate::domain::platform::{Accepted, Platform, Standing};

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(resource("/platforms").route(web::get().to(platforms)))
        .service(resource("/platforms/accepted").route(web::put().to(accept)))
        .service(resource("/platforms/{cek}").route(web::get().to(platform)))
        .service(resource("/platforms/{cek}/enrol").route(web::post().to(enrol)))
        .service(resource("/platforms/{cek}/refuse").route(web::post().to(refuse)));
}

/// A page of platforms, by fingerprint.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct PlatformsReply {
    /// The platforms.
    pub items: Vec<Platform>,
    /// `cursor` of the next page; null: there is none.
    pub next: Option<Cursor>,
    /// Which platforms get releases.
    pub accepted: Accepted,
}

/// `PUT /v1/platforms/accepted`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptedBody {
    /// Which platforms get releases: any that is not refused, or those that are enrolled.
    pub accepted: Accepted,
    /// Why, at most 4096 bytes.
    pub reason: String,
}

/// Which platforms get releases.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct AcceptedReply {
    /// Which was asked for.
    pub accepted: Accepted,
    /// Who said so, when, and why.
    #[serde(flatten)]
    pub word: Word,
    /// Waits for another person, until when; null: it is so.
    pub proposal: Option<Proposal>,
}

/// A platform, or what is to become of it.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct PlatformReply {
    /// The platform as it is.
    #[serde(flatten)]
    pub platform: Platform,
    /// Its enrolment, which waits for another person; null: it is as was said.
    pub proposal: Option<Proposal>,
}

async fn platforms(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    const LIST: &str = "platforms";
    let parameters = ListParameters::read(request.query_string());
    read(state, request, move |service, caller| {
        let parameters = parameters?;
        let limit = page::limit(parameters.limit, page::USUAL)?;
        let after = parameters.cursor.map(|cursor| cursor.number(LIST)).transpose()?;
        let page = service.store().platforms(&caller.owner, after, limit)?;
        Ok(PlatformsReply {
            items: page.platforms,
            next: page.next.map(|next| Cursor::after(LIST, next)),
            accepted: page.accepted,
        })
    })
    .await
}

/// A path that holds no fingerprint names nothing.
fn cek(path: &str) -> Result<HexDigest, Problem> {
    path.parse().map_err(|_| nothing())
}

async fn platform(path: web::Path<String>, state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    read_one(state, request, move |service, caller| {
        let found = service.store().platform(&caller.owner, cek(&path)?)?;
        found.ok_or_else(nothing)
    })
    .await
}

async fn judge(
    path: web::Path<String>,
    standing: Standing,
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    say(
        state,
        request,
        payload,
        move |service, caller, body: ReasonBody| {
            let cek = cek(&path)?;
            let (judged, proposal) = taken(service.judge_platform(caller, cek, standing, &body.reason)?)?;
            let platform = match judged {
                Some(platform) => platform,
                None => {
                    let known = service.store().platform(&caller.owner, cek)?;
                    known.unwrap_or_else(|| Platform::new(cek))
                }
            };
            Ok(PlatformReply { platform, proposal })
        },
    )
    .await
}

async fn enrol(
    path: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    judge(path, Standing::Enrolled, state, request, payload).await
}

async fn refuse(
    path: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    judge(path, Standing::Refused, state, request, payload).await
}

async fn accept(state: web::Data<State>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let result = async {
        let caller = auth::caller(&request)?;
        let bytes = body::read(&request, payload, body::HOST_LIMIT).await?;
        let done = on_thread(&state, move |service| {
            let AcceptedBody { accepted, reason } = body::parse(&bytes)?;
            let (word, proposal) = taken(service.accept_platforms(&caller, accepted, &reason)?)?;
            let word = word.or_else(|| proposal.as_ref().map(|proposal| proposal.word.clone()));
            let word = word.ok_or_else(nothing)?;
            Ok(AcceptedReply {
                accepted,
                word,
                proposal,
            })
        });
        Ok(HttpResponse::Ok().json(done.await?))
    };
    answer(&request, result.await)
}
