//! Who a request is from, and whether that may call what it calls: before any of its body is read.

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::AUTHORIZATION;
use actix_web::middleware::Next;
use actix_web::{HttpMessage as _, HttpRequest, web};

use super::State;
use super::problem::{Kind, Problem};
use super::roles::{self, Who};
use crate::domain::Role;
use crate::domain::token::{Caller, Identity, Token};

/// Lets a request through to its handler, or answers it: the one place where [`roles`] is asked.
pub(super) async fn gate(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    match admitted(request.request()).await {
        Ok(identity) => {
            if let Some(identity) = identity {
                request.extensions_mut().insert(identity);
            }
            next.call(request).await
        }
        Err(problem) => {
            let response = problem.response(request.request());
            Ok(request.into_response(response))
        }
    }
}

/// The caller, where one is needed.
async fn admitted(request: &HttpRequest) -> Result<Option<Identity>, Problem> {
    // The path as the router sees it, in which `%61` is `a`.
    let path = request
        .resource_map()
        .match_pattern(request.match_info().as_str());
    let path = path.ok_or_else(|| Problem::new(Kind::NotFound, "there is nothing at this path"))?;
    let allowed = match roles::who(request.method().as_str(), &path) {
        None => return Err(Problem::not_allowed(&roles::methods(&path))),
        Some(Who::Anybody) => return Ok(None),
        Some(Who::Roles(allowed)) => allowed,
    };
    let identity = authenticated(request).await?;
    if allowed.contains(&identity.role) {
        Ok(Some(identity))
    } else {
        Err(forbidden(allowed, &identity.name, identity.role))
    }
}

/// Whose the request's bearer token is.
async fn authenticated(request: &HttpRequest) -> Result<Identity, Problem> {
    let header = request.headers().get(AUTHORIZATION);
    let header = header.and_then(|value| value.to_str().ok());
    let (scheme, text) = header
        .and_then(|text| text.split_once(' '))
        .ok_or_else(unauthorized)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unauthorized());
    }
    let token: Token = text.trim().parse().map_err(|_| unauthorized())?;
    let state = request.app_data::<web::Data<State>>();
    let state = state.ok_or_else(|| Problem::new(Kind::Unavailable, "the server is starting"))?;
    let service = state.service.clone();
    let found = web::block(move || service.identify(&token)).await??;
    found.ok_or_else(unauthorized)
}

fn unauthorized() -> Problem {
    Problem::new(
        Kind::Unauthorized,
        "there is no valid bearer token in this request",
    )
}

/// The token is valid, and not for this.
pub(super) fn forbidden(allowed: &[Role], name: &str, has: Role) -> Problem {
    let mut needed = allowed.iter().map(|role| role.as_str()).collect::<Vec<_>>();
    let last = needed.pop().unwrap_or("none there is");
    let needed = if needed.is_empty() {
        last.to_owned()
    } else {
        format!("{} or {last}", needed.join(", "))
    };
    Problem::new(
        Kind::Forbidden,
        format!("this needs the role {needed}; the token {name} has the role {has}"),
    )
}

/// Who was let through.
///
/// # Errors
/// Where nobody needed to say who they are.
pub(super) fn identity(request: &HttpRequest) -> Result<Identity, Problem> {
    let identity = request.extensions().get::<Identity>().cloned();
    identity.ok_or_else(unauthorized)
}

/// Who was let through, to act on an owner's objects.
///
/// # Errors
/// Where that is nobody, or has no owner.
pub(super) fn caller(request: &HttpRequest) -> Result<Caller, Problem> {
    of_owner(identity(request)?)
}

/// The same of somebody who is known.
///
/// # Errors
/// Where that is one who has no owner.
pub(super) fn of_owner(identity: Identity) -> Result<Caller, Problem> {
    let Identity {
        owner,
        token,
        name,
        role,
        once,
    } = identity;
    match owner {
        Some(owner) => Ok(Caller {
            owner,
            token,
            name,
            role,
            once,
        }),
        None => Err(forbidden(&[Role::Owner], &name, role)),
    }
}
