//! The owner API's tokens, and the administrators' owners.

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::answer::{answer, on_thread};
use super::once::{Answers, once};
use super::owner::{read_by, resource};
use super::page::{self, Cursor, ListParameters, Page};
use super::problem::{Kind, Problem};
use super::{State, auth, body};
use crate::domain::token::{Token, TokenEntry};
use crate::domain::{Name, Role, Time};
use crate::release::tokens::{NewToken, TokenError};

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(
            resource("/tokens")
                .route(web::get().to(tokens))
                .route(web::post().to(create)),
        )
        .service(resource("/tokens/{id}").route(web::delete().to(revoke)))
        .service(
            resource("/owners")
                .route(web::get().to(owners))
                .route(web::post().to(create_owner)),
        );
}

/// `POST /v1/tokens`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenBody {
    /// What to call it.
    pub name: Name,
    /// What it may do.
    pub role: Role,
    /// Whose it is to be, where an administrator makes it; an owner makes its own only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Name>,
    /// From when on it is refused. Left out: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
}

/// A token that was made.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct TokenReply {
    /// Its text, which is shown this once.
    #[schemars(with = "String")]
    pub token: Zeroizing<String>,
    /// What is listed of it.
    #[serde(flatten)]
    pub entry: TokenEntry,
}

/// Tokens, oldest first, also those that have expired or were revoked.
pub type TokenList = Page<TokenEntry>;

/// `POST /v1/owners`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnerBody {
    /// What to call the owner.
    pub name: Name,
}

/// An owner that was made.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct OwnerReply {
    /// The owner.
    pub owner: Name,
    /// The owner's first token, of role `owner`, which is shown this once.
    #[schemars(with = "String")]
    pub token: Zeroizing<String>,
    /// What changes for the others.
    pub warnings: Vec<String>,
}

/// The owners, by name.
pub type OwnerList = Page<OwnerEntry>;

/// One owner of the list.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct OwnerEntry {
    /// The owner.
    pub name: Name,
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        let detail = error.to_string();
        match error {
            TokenError::TooMuch { .. } => Self::new(Kind::Forbidden, detail),
            TokenError::Malformed { .. } => Self::new(Kind::Malformed, detail),
            TokenError::NoOwner | TokenError::NoToken => Self::new(Kind::NotFound, detail),
            TokenError::Exists(_) | TokenError::Last | TokenError::Full(_) => {
                Self::new(Kind::Conflict, detail)
            }
            TokenError::Store(error) => error.into(),
            TokenError::Random(error) => {
                log::error!("{error}");
                Self::new(Kind::Unavailable, "there are no random bytes")
            }
        }
    }
}

/// What the query of `GET /v1/tokens` may have.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenParameters {
    /// Of this owner only.
    owner: Option<Name>,
    /// `next` of the page before. Left out: the first page.
    cursor: Option<Cursor>,
    /// Tokens on the page at most; 100 where it is left out.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
}

async fn tokens(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    let may = "`owner`, an owner's name, `cursor` and `limit`";
    let parameters = page::query::<TokenParameters>(request.query_string(), may);
    read_by(state, request, |service, identity| {
        let TokenParameters { owner, cursor, limit } = parameters?;
        let items = service.tokens(identity, owner)?;
        // In the order of the store: by the time, then by the id.
        let key = |token: &TokenEntry| format!("{:020} {}", token.created.millis(), token.id);
        ListParameters { cursor, limit }.page("tokens", items, key)
    })
    .await
}

/// Makes a token; its text is in this answer and nowhere else.
async fn create(state: web::Data<State>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let how = (body::HOST_LIMIT, Answers::Secret);
    let made = once(state, request, payload, how, |service, identity, bytes| {
        let body: TokenBody = body::parse(bytes)?;
        let new = NewToken {
            name: body.name,
            role: body.role,
            owner: body.owner,
            expires: body.expires,
        };
        let (token, entry) = service.create_token(identity, new)?;
        let token = shown(&token);
        Ok((StatusCode::CREATED, TokenReply { token, entry }))
    });
    shown_once(made.await)
}

async fn revoke(id: web::Path<String>, state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    let result = async {
        let identity = auth::identity(&request)?;
        let id = id.parse().map_err(|_| Problem::from(TokenError::NoToken))?;
        on_thread(&state, move |service| Ok(service.revoke_token(&identity, id)?)).await?;
        Ok(HttpResponse::NoContent().finish())
    };
    answer(&request, result.await)
}

async fn owners(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    let parameters = ListParameters::read(request.query_string());
    read_by(state, request, |service, _| {
        let names = service.store().owners()?.into_iter();
        let items = names.map(|name| OwnerEntry { name }).collect();
        parameters?.page("owners", items, |owner| owner.name.to_string())
    })
    .await
}

async fn create_owner(state: web::Data<State>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let how = (body::HOST_LIMIT, Answers::Secret);
    let made = once(state, request, payload, how, |service, identity, bytes| {
        let OwnerBody { name: owner } = body::parse(bytes)?;
        let token = shown(&service.create_owner(identity, &owner)?);
        let ownerless = service.ownerless_roots()?;
        let warning = |root| {
            format!(
                "the extra root {root} names no owners and counts for nobody, as there are several: say for whom it counts with `owners` in danger_extra_roots"
            )
        };
        let warnings = ownerless.into_iter().map(warning).collect();
        Ok((
            StatusCode::CREATED,
            OwnerReply {
                owner,
                token,
                warnings,
            },
        ))
    });
    shown_once(made.await)
}

fn shown(token: &Token) -> Zeroizing<String> {
    Zeroizing::new(token.expose().to_owned())
}

/// An answer with a token in it, which nobody on the way may keep.
fn shown_once(mut answer: HttpResponse) -> HttpResponse {
    let header = HeaderValue::from_static("no-store");
    answer.headers_mut().insert(CACHE_CONTROL, header);
    answer
}
