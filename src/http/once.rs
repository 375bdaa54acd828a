//! `Idempotency-Key` on the owner API's POST requests: sent again, the same request is answered the same, and what it
//! asks for is done once.
//!
//! The key is written in the transaction of the act. A server that ends before the answer is kept has done the act,
//! and says so with 409 when it is asked again. What was refused did nothing, and is decided anew. An answer with a
//! token in it is not kept at all: a stolen disk would have it, sealed or not, for a day after it was to be shown once.

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, web};
use openssl::sha::sha256;
use serde::Serialize;
use uuid::Uuid;

use super::answer::{answer, on_thread};
use super::problem::{Kind, Problem};
use super::{State, auth, body};
use crate::audit::actor::Actor;
use crate::domain::HexDigest;
use crate::domain::once::Once;
use crate::domain::token::Identity;
use crate::release::Service;
use crate::store::once::Known;

/// The longest key.
const MAX_KEY: usize = 255;
/// The longest answer that is kept.
const MAX_KEPT: usize = 1 << 20;

/// Whether an answer is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    /// It is.
    Kept,
    /// It has a secret in it.
    Secret,
}

/// Reads the body of a POST of this length at most, and does what it asks for once.
pub(super) async fn once<T: Serialize>(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
    (limit, answers): (usize, Answers),
    work: impl FnOnce(&Service, &Identity, &[u8]) -> Result<(StatusCode, T), Problem> + Send + 'static,
) -> HttpResponse {
    let result = async {
        let mut identity = auth::identity(&request)?;
        let key = key(&request)?;
        let bytes = body::read(&request, payload, limit).await?;
        let path = request.uri().to_string();
        let done = on_thread(&state, move |service| {
            let once = key.map(|key| of(&key, &identity, &path, &bytes)).transpose()?;
            if let Some(once) = &once
                && let Some(kept) = again(service, once)?
            {
                return Ok(kept);
            }
            identity.once.clone_from(&once);
            let (status, made) = work(service, &identity, &bytes)?;
            let body = serde_json::to_vec(&made).map_err(|error| unwritten(&error))?;
            if let Some(once) = &once {
                keep(service, once, (status, &body), answers);
            }
            Ok((status, body))
        });
        let (status, body) = done.await?;
        Ok(HttpResponse::build(status)
            .insert_header((CONTENT_TYPE, "application/json"))
            .body(body))
    };
    answer(&request, result.await)
}

/// The key of a request, where it has one.
fn key(request: &HttpRequest) -> Result<Option<Vec<u8>>, Problem> {
    let mut keys = request.headers().get_all("idempotency-key");
    let Some(key) = keys.next() else { return Ok(None) };
    let visible = key.as_bytes().iter().all(u8::is_ascii_graphic);
    if keys.next().is_some() || key.is_empty() || key.len() > MAX_KEY || !visible {
        let why =
            format!("`Idempotency-Key`: expected one header of 1 to {MAX_KEY} visible ASCII characters");
        return Err(Problem::new(Kind::Malformed, why));
    }
    Ok(Some(key.as_bytes().to_vec()))
}

fn of(key: &[u8], identity: &Identity, path: &str, body: &[u8]) -> Result<Once, Problem> {
    let caller = (&identity.owner, Actor::from(identity));
    let caller = serde_json::to_vec(&caller).map_err(|error| unwritten(&error))?;
    let hash = |first: &[u8], second: &[u8]| {
        let both = [sha256(first), sha256(second)].concat();
        HexDigest::from(sha256(&both))
    };
    Ok(Once {
        key: hash(&caller, key),
        request: hash(path.as_bytes(), body),
        act: Uuid::new_v4(),
        owner: identity.owner.clone(),
    })
}

fn unwritten(error: &serde_json::Error) -> Problem {
    Problem::new(Kind::Unavailable, error.to_string())
}

/// The answer that was kept; none: it is yet to be done.
fn again(service: &Service, once: &Once) -> Result<Option<(StatusCode, Vec<u8>)>, Problem> {
    let used = |why: &str| Problem::new(Kind::KeyUsed, why);
    match service.store().known(once, service.now())? {
        Known::New => Ok(None),
        Known::Full => Err(Problem::too_many(
            "as many idempotency keys as are remembered were used within a day: send the request without one",
        )),
        Known::Used { request, .. } if request != once.request => Err(used(
            "another request was made with this `Idempotency-Key` within a day: take another for this one",
        )),
        Known::Used { answer: None, .. } => Err(used(
            "the request was made before with this `Idempotency-Key` and is done; its answer was not kept",
        )),
        Known::Used {
            answer: Some((status, body)),
            ..
        } => {
            let status = StatusCode::from_u16(status)
                .map_err(|error| Problem::new(Kind::Unavailable, error.to_string()))?;
            Ok(Some((status, body)))
        }
    }
}

/// Keeps an answer. Where that fails, the act is done still, and its key says so.
fn keep(service: &Service, once: &Once, (status, body): (StatusCode, &[u8]), answers: Answers) {
    if answers == Answers::Secret || body.len() > MAX_KEPT {
        return;
    }
    let kept = service
        .store()
        .keep_answer(once, status.as_u16(), body.to_vec(), service.now());
    if let Err(error) = kept {
        log::warn!("an answer was not kept for its idempotency key: {error}");
    }
}
