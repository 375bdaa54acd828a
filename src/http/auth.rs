//! Who a request is from, and whether that may call what it calls: before any of its body is read.

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::ConnectionType;
use actix_web::http::header::AUTHORIZATION;
use actix_web::middleware::Next;
use actix_web::{HttpMessage as _, HttpRequest, web};

use zeroize::Zeroizing;

use super::listeners::Served;
use super::problem::{Kind, Problem};
use super::roles::{self, Who};
use super::{State, request_id, tls};
use crate::domain::Role;
use crate::domain::token::{Caller, Identity, Token};
use crate::identity::{ClientCertificate, Identities, Unproved};

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
            let mut response = problem.response(request.request());
            if tls::ended(request.request()) {
                response.head_mut().set_connection_type(ConnectionType::Close);
            }
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
    let nothing = || Problem::new(Kind::NotFound, "there is nothing at this path");
    let path = path.ok_or_else(nothing)?;
    let served = request.app_data::<web::Data<Served>>();
    let here = request.app_config().local_addr();
    if !served.is_some_and(|served| served.has(here, &path)) {
        return Err(nothing());
    }
    let allowed = match roles::who(request.method().as_str(), &path) {
        None => return Err(Problem::not_allowed(&roles::methods(&path))),
        Some(Who::Anybody) => return Ok(None),
        Some(Who::Hosts) => return host(request).await,
        Some(Who::Roles(allowed)) => allowed,
    };
    let identity = authenticated(request).await?;
    if allowed.contains(&identity.role) {
        Ok(Some(identity))
    } else {
        Err(forbidden(allowed, &identity.name, identity.role))
    }
}

/// What a caller shows to say who it is.
enum Credential {
    Token(Token),
    Jwt(Zeroizing<String>),
    Certificate(ClientCertificate),
}

impl Credential {
    /// What there is in a request: its `Authorization`, or else the certificate of its connection.
    ///
    /// # Errors
    /// What there is can't be a credential. It is never passed over for another.
    fn of(request: &HttpRequest) -> Result<Option<Self>, Problem> {
        let mut headers = request.headers().get_all(AUTHORIZATION);
        let Some(header) = headers.next() else {
            return match tls::shown(request) {
                None => Ok(None),
                Some(certificate) => certificate
                    .map(Self::Certificate)
                    .map(Some)
                    .ok_or_else(unauthorized),
            };
        };
        let header = header.to_str().ok().filter(|_| headers.next().is_none());
        let (scheme, text) = header
            .and_then(|text| text.split_once(' '))
            .ok_or_else(unauthorized)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(unauthorized());
        }
        let text = text.trim();
        if Identities::is_jwt(text) {
            return Ok(Some(Self::Jwt(Zeroizing::new(text.to_owned()))));
        }
        let token = text.parse().map_err(|_| unauthorized())?;
        Ok(Some(Self::Token(token)))
    }
}

/// Who calls.
async fn authenticated(request: &HttpRequest) -> Result<Identity, Problem> {
    let shown = Credential::of(request)?.ok_or_else(unauthorized)?;
    proved(request, shown).await
}

/// Which host calls, if it says so; who shows what is not valid is turned away, so that a host whose token has
/// ended learns it. Whoever is no host asks like anybody.
async fn host(request: &HttpRequest) -> Result<Option<Identity>, Problem> {
    let Some(shown) = Credential::of(request)? else {
        return Ok(None);
    };
    let identity = proved(request, shown).await?;
    Ok(Some(identity).filter(|identity| identity.role == Role::Host))
}

async fn proved(request: &HttpRequest, shown: Credential) -> Result<Identity, Problem> {
    let state = request.app_data::<web::Data<State>>();
    let state = state.ok_or_else(|| Problem::new(Kind::Unavailable, "the server is starting"))?;
    let service = state.service.clone();
    let found = web::block(request_id::carried(move || match shown {
        Credential::Token(token) => {
            let unknown = || Unproved("no valid token has this text".to_owned());
            service.identify(&token).map(|found| found.ok_or_else(unknown))
        }
        Credential::Jwt(text) => service.identify_jwt(&text),
        Credential::Certificate(certificate) => service.identify_certificate(&certificate),
    }));
    found.await??.map_err(|why| {
        // The caller is not told: who tries tokens would learn how near they are.
        log::info!("the caller is unknown: {why}");
        unauthorized()
    })
}

fn unauthorized() -> Problem {
    Problem::new(
        Kind::Unauthorized,
        "there is no valid bearer token in this request",
    )
}

/// The caller is known, and may not do this.
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

/// The host that was let through, if it proved who it is.
pub(super) fn host_identity(request: &HttpRequest) -> Option<Identity> {
    request.extensions().get::<Identity>().cloned()
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
        proof,
    } = identity;
    match owner {
        Some(owner) => Ok(Caller {
            owner,
            token,
            name,
            role,
            once,
            proof,
        }),
        None => Err(forbidden(&[Role::Owner], &name, role)),
    }
}
