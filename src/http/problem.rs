//! Problem documents (RFC 9457), and the pages that explain their types.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::RequestId;
pub(super) use super::problem_kind::Kind;
use crate::policy::Diagnostic;
use crate::release::Refusal;
use crate::release::register::{RegisterError, Unacceptable};

/// A problem on its way out.
pub(super) struct Problem {
    kind: Kind,
    detail: String,
    decision: Option<Uuid>,
    hold: Option<Uuid>,
    retry_after: Option<Duration>,
    errors: Vec<Place>,
    allow: Option<Box<str>>,
}

/// A problem document (RFC 9457).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(super) struct Document<'a> {
    /// Which problem it is: a path at which the server explains it. It never changes its meaning.
    r#type: String,
    /// The problem in a few words.
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// What it is in this case, for people.
    detail: &'a str,
    /// The request's id, as in `x-request-id` and in the server's log.
    request_id: Option<Uuid>,
    /// The recorded decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<Uuid>,
    /// The hold that waits for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<Uuid>,
    /// What is wrong, and where.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schemars(with = "Option<Vec<Place>>")]
    errors: &'a [Place],
}

/// What is wrong, and where: with an object that was to be registered, or in a file of a policy bundle.
#[derive(Serialize, JsonSchema)]
struct Place {
    /// The object's kind and name.
    object: String,
    /// What it says that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<String>,
    /// The member that says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<String>,
    /// The file of the bundle; empty where it is in none.
    file: String,
    /// The line, from 1; 0: in none.
    line: u32,
    /// The column, from 1; 0: in none.
    column: u32,
    /// What is wrong.
    message: String,
    /// What to do about it.
    hint: Option<String>,
    /// The line's text.
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
            allow: None,
        }
    }

    /// The method is none of those that this path has.
    pub(super) fn not_allowed(methods: &[&str]) -> Self {
        let methods = methods.join(", ");
        let why = match methods.is_empty() {
            true => "the path exists, with other methods".to_owned(),
            false => format!("the path exists, with {methods}"),
        };
        Self {
            allow: Some(methods.into_boxed_str()),
            ..Self::new(Kind::MethodNotAllowed, why)
        }
    }

    /// There were too many already; some are forgotten each hour.
    pub(super) fn too_many(detail: &str) -> Self {
        Self::new(Kind::TooManyRequests, detail).after(Duration::from_secs(3600))
    }

    /// The same, with what it is about before the rest.
    pub(super) fn about(self, what: &str) -> Self {
        Self {
            detail: format!("{what} {}", self.detail),
            ..self
        }
    }

    /// The same, with the object that it is about, and its member.
    pub(super) fn at(mut self, object: String, member: Option<String>, message: String) -> Self {
        self.errors.push(Place {
            object,
            about: None,
            member,
            file: String::new(),
            line: 0,
            column: 0,
            message,
            hint: None,
            source_line: None,
        });
        self
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    fn placed(self, found: Unacceptable) -> Self {
        Self {
            errors: vec![Place::from(found)],
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
        if let Some(methods) = &self.allow {
            response.insert_header((ALLOW, &**methods));
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
            RegisterError::Invalid(found) => Self::new(Kind::Invalid, detail).placed(*found),
            RegisterError::Bundle(diagnostics) => Self {
                errors: diagnostics.into_iter().map(Place::from).collect(),
                ..Self::new(Kind::Invalid, detail)
            },
            RegisterError::Conflict(found) => Self::new(Kind::Conflict, detail).placed(*found),
            RegisterError::Forbidden(found) => Self::new(Kind::Forbidden, detail).placed(*found),
            RegisterError::Missing(found) => Self::new(Kind::NotFound, detail).placed(*found),
            RegisterError::Proposed(_) => Self::new(Kind::ApprovalRequired, detail),
            RegisterError::Alone(_) => Self::new(Kind::WrongState, detail),
            RegisterError::NotFound => Self::new(Kind::NotFound, detail),
            RegisterError::Precondition(_) => Self::new(Kind::PreconditionFailed, detail),
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
