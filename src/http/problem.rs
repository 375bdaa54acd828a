//! Problem documents (RFC 9457), and the pages that explain their types.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};
use serde::Serialize;
use uuid::Uuid;

use super::RequestId;
use crate::policy::Diagnostic;
use crate::release::Refusal;
use crate::release::register::{RegisterError, Unacceptable};

/// The kinds of problems. Their names are stable: clients may rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Malformed,
    Unauthorized,
    Forbidden,
    Denied,
    ConfirmationRequired,
    NotFound,
    MethodNotAllowed,
    LaunchUsed,
    Conflict,
    LaunchExpired,
    TooLarge,
    ChainInvalid,
    MeasurementMismatch,
    Invalid,
    TooManyRequests,
    Unavailable,
}

const KINDS: [Kind; 16] = [
    Kind::Malformed,
    Kind::Unauthorized,
    Kind::Forbidden,
    Kind::Denied,
    Kind::ConfirmationRequired,
    Kind::NotFound,
    Kind::MethodNotAllowed,
    Kind::LaunchUsed,
    Kind::Conflict,
    Kind::LaunchExpired,
    Kind::TooLarge,
    Kind::ChainInvalid,
    Kind::MeasurementMismatch,
    Kind::Invalid,
    Kind::TooManyRequests,
    Kind::Unavailable,
];

impl Kind {
    /// Name, status, title, and what its page says.
    fn facts(self) -> (&'static str, u16, &'static str, &'static str) {
        match self {
            Self::Malformed => (
                "malformed",
                400,
                "The request is malformed",
                "The body is not JSON, or a member or a header is missing, unknown, of another type or out of range. `detail` names it. Binary members are standard base64.",
            ),
            Self::Unauthorized => (
                "unauthorized",
                401,
                "A valid token is needed",
                "Send `Authorization: Bearer …` with a token that has not expired and was not revoked. `keyward init` and `keyward token create` make them. A token of an identity provider, or a client certificate, does as well where the server's configuration gives it a role. A host may come without; what it shows must be valid.",
            ),
            Self::Forbidden => (
                "forbidden",
                403,
                "The token's role does not allow this",
                "The token is valid, and not for this. `detail` says which roles are: an owner's `keyward token create --role …` makes a token of another role.",
            ),
            Self::Denied => (
                "denied",
                403,
                "The request was denied",
                "The platform or the guest is not what the owner's policies ask for. The owner finds the reasons under the decision's id: `keyward decision show ID`. Trying again with the same guest changes nothing.",
            ),
            Self::ConfirmationRequired => (
                "confirmation-required",
                403,
                "The release waits for the owner",
                "Every policy allows the release, but as many were made as the owner permitted. The owner can confirm the hold; then the same request succeeds while the launch has not expired. Try again after `Retry-After`.",
            ),
            Self::NotFound => (
                "not-found",
                404,
                "There is no such thing",
                "No workload, launch or object has this name.",
            ),
            Self::MethodNotAllowed => (
                "method-not-allowed",
                405,
                "The method is not allowed here",
                "The path exists, with other methods.",
            ),
            Self::LaunchUsed => (
                "launch-used",
                409,
                "The launch has ended",
                "A launch gives its secrets once. To get the same answer again, a host sends the same request with the same `Idempotency-Key` before the launch expires. A launch also ends after too many failed validations. Start the guest anew.",
            ),
            Self::Conflict => (
                "conflict",
                409,
                "It conflicts with what there is",
                "POST registers what is not there yet; PUT replaces. An owner keeps one valid token of role `owner`. A secret that is bound to other policies than this form can say is replaced by neither: `detail` says what to do.",
            ),
            Self::LaunchExpired => (
                "launch-expired",
                410,
                "The launch has expired",
                "It was not validated in time, or gave way to newer launches of the same platform. Start the guest anew.",
            ),
            Self::TooLarge => (
                "too-large",
                413,
                "The request is too large",
                "The body is longer than is accepted here.",
            ),
            Self::ChainInvalid => (
                "chain-invalid",
                422,
                "The certificate chain proves no platform",
                "`detail` names the certificate. Chains must lead to AMD's root; a CEK without AMD's signature needs the `cpu-id` by which AMD's service knows the chip. `keyward sev chain` checks a chain offline.",
            ),
            Self::MeasurementMismatch => (
                "measurement-mismatch",
                422,
                "The measurement does not match",
                "The MAC holds with none of the launch digests that the workload accepts, or the request's SEV policy is not the launch's. Usual causes: another kernel, initrd or command line, another number or model of vCPUs, a build id read as hexadecimal. `keyward sev measure` computes launch digests offline.",
            ),
            Self::Invalid => (
                "invalid",
                422,
                "The objects can't be registered",
                "`detail` names the object and what is wrong with it. Nothing was written.",
            ),
            Self::TooManyRequests => (
                "too-many-requests",
                429,
                "Too many requests",
                "Too many launches wait to be validated, or too many measurements matched nothing. Try again after `Retry-After`.",
            ),
            Self::Unavailable => (
                "unavailable",
                503,
                "Not now",
                "Something that the answer depends on is not to be had: the store, or AMD's key distribution service. Nothing was released. Try again after `Retry-After`.",
            ),
        }
    }
}

/// A problem on its way out.
pub(super) struct Problem {
    kind: Kind,
    detail: String,
    decision: Option<Uuid>,
    hold: Option<Uuid>,
    retry_after: Option<Duration>,
    errors: Vec<Place>,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    request_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<Uuid>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Place],
}

/// What is wrong, and where: with an object that was to be registered, or in a file of a policy bundle.
#[derive(Serialize)]
struct Place {
    object: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<&'static str>,
    file: String,
    line: u32,
    column: u32,
    message: String,
    hint: Option<String>,
    source_line: Option<String>,
}

impl From<Diagnostic> for Place {
    fn from(d: Diagnostic) -> Self {
        Self {
            object: "PolicyBundle".to_owned(),
            about: None,
            member: None,
            file: d.file,
            line: d.line,
            column: d.column,
            message: d.message,
            hint: d.hint,
            source_line: d.source_line,
        }
    }
}

impl From<Unacceptable> for Place {
    fn from(found: Unacceptable) -> Self {
        Self {
            object: found.object,
            about: found.about,
            member: found.member,
            file: String::new(),
            line: 0,
            column: 0,
            message: found.why,
            hint: found.hint,
            source_line: None,
        }
    }
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let retry_after = (kind == Kind::Unavailable).then_some(Duration::from_secs(2));
        Self {
            kind,
            detail: detail.into(),
            decision: None,
            hold: None,
            retry_after,
            errors: Vec::new(),
        }
    }

    /// The same, with what it is about before the rest.
    pub(super) fn about(self, what: &str) -> Self {
        Self {
            detail: format!("{what} {}", self.detail),
            ..self
        }
    }

    fn after(self, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..self
        }
    }

    pub(super) fn response(&self, request: &HttpRequest) -> HttpResponse {
        let (name, status, title, _) = self.kind.facts();
        let document = Document {
            r#type: format!("/problems/{name}"),
            title,
            status,
            detail: &self.detail,
            request_id: request.extensions().get::<RequestId>().map(|id| id.0),
            decision: self.decision,
            hold: self.hold,
            errors: &self.errors,
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = HttpResponse::build(status);
        if let Some(after) = self.retry_after {
            let seconds = after.as_millis().div_ceil(1000).max(1);
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        if self.kind == Kind::Unauthorized {
            response.insert_header((WWW_AUTHENTICATE, "Bearer"));
        }
        let body = serde_json::to_vec(&document).unwrap_or_default();
        response
            .insert_header((CONTENT_TYPE, "application/problem+json"))
            .body(body)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::NotFound => Self::new(Kind::NotFound, detail),
            Refusal::Malformed { .. } => Self::new(Kind::Malformed, detail),
            Refusal::ChainInvalid(_) => Self::new(Kind::ChainInvalid, detail),
            Refusal::MeasurementMismatch => Self::new(Kind::MeasurementMismatch, detail),
            Refusal::Denied { decision } => Self {
                decision: Some(decision),
                ..Self::new(Kind::Denied, detail)
            },
            Refusal::ConfirmationRequired {
                decision,
                hold,
                retry_after,
            } => Self {
                decision: Some(decision),
                hold: Some(hold),
                ..Self::new(Kind::ConfirmationRequired, detail).after(retry_after)
            },
            Refusal::LaunchUsed => Self::new(Kind::LaunchUsed, detail),
            Refusal::LaunchExpired => Self::new(Kind::LaunchExpired, detail),
            Refusal::TooMany { retry_after, .. } => {
                Self::new(Kind::TooManyRequests, detail).after(retry_after)
            }
            Refusal::Unavailable { retry_after, .. } => {
                Self::new(Kind::Unavailable, detail).after(retry_after)
            }
        }
    }
}

impl From<RegisterError> for Problem {
    fn from(error: RegisterError) -> Self {
        let detail = error.to_string();
        match error {
            RegisterError::Invalid(found) => Self {
                errors: vec![Place::from(*found)],
                ..Self::new(Kind::Invalid, detail)
            },
            RegisterError::Bundle(diagnostics) => Self {
                errors: diagnostics.into_iter().map(Place::from).collect(),
                ..Self::new(Kind::Invalid, detail)
            },
            RegisterError::Conflict(_) => Self::new(Kind::Conflict, detail),
            RegisterError::Forbidden(_) => Self::new(Kind::Forbidden, detail),
            RegisterError::NotFound => Self::new(Kind::NotFound, detail),
            RegisterError::Busy => Self::new(Kind::Unavailable, detail),
            RegisterError::Store(_) | RegisterError::Seal(_) => {
                log::error!("{detail}");
                Self::new(Kind::Unavailable, "the store does not answer")
            }
        }
    }
}

/// A handler that could not run, such as on a thread that died.
impl From<actix_web::error::BlockingError> for Problem {
    fn from(_: actix_web::error::BlockingError) -> Self {
        Self::new(Kind::Unavailable, "the server is stopping")
    }
}

impl From<crate::store::StoreError> for Problem {
    fn from(error: crate::store::StoreError) -> Self {
        log::error!("{error}");
        Self::new(Kind::Unavailable, "the store does not answer")
    }
}

/// `GET /problems/{name}`: what a problem's type means and what to do.
pub(super) async fn page(name: web::Path<String>, request: HttpRequest) -> HttpResponse {
    let found = KINDS
        .iter()
        .map(|kind| kind.facts())
        .find(|(known, ..)| *known == name.as_str());
    let Some((name, status, title, text)) = found else {
        return Problem::new(Kind::NotFound, "there is no such type of problem").response(&request);
    };
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{name} · Keyward</title>\
         <style>body{{font:16px/1.6 system-ui,sans-serif;max-width:40em;margin:4em auto;padding:0 1em;color:#222}}\
         code{{background:#f2f2f2;padding:.1em .3em;border-radius:3px}}small{{color:#666}}</style>\
         <small><code>{name}</code> · HTTP {status}</small><h1>{title}</h1><p>{}</p></html>",
        code_spans(text)
    );
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .body(html)
}

/// Text between backticks as code; the texts are ours and hold no markup.
fn code_spans(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts
        .map(|(n, part)| {
            if n % 2 == 1 {
                format!("<code>{part}</code>")
            } else {
                part.to_owned()
            }
        })
        .collect()
}
