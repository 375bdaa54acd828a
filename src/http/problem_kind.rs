//! The kinds of problems, which never change their names, and the page that the server has of each.

use actix_web::{HttpRequest, HttpResponse, web};

use super::problem::Problem;

/// The kinds of problems. Their names are stable: clients may rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Malformed,
    Unauthorized,
    Forbidden,
    Denied,
    ConfirmationRequired,
    ApprovalRequired,
    NotFound,
    MethodNotAllowed,
    LaunchUsed,
    Conflict,
    WrongState,
    KeyUsed,
    LaunchExpired,
    PreconditionFailed,
    TooLarge,
    ChainInvalid,
    MeasurementMismatch,
    Invalid,
    TooManyRequests,
    Unavailable,
}

const KINDS: [Kind; 20] = [
    Kind::Malformed,
    Kind::Unauthorized,
    Kind::Forbidden,
    Kind::Denied,
    Kind::ConfirmationRequired,
    Kind::ApprovalRequired,
    Kind::NotFound,
    Kind::MethodNotAllowed,
    Kind::LaunchUsed,
    Kind::Conflict,
    Kind::WrongState,
    Kind::KeyUsed,
    Kind::LaunchExpired,
    Kind::PreconditionFailed,
    Kind::TooLarge,
    Kind::ChainInvalid,
    Kind::MeasurementMismatch,
    Kind::Invalid,
    Kind::TooManyRequests,
    Kind::Unavailable,
];

impl Kind {
    /// Name, status, title, and what its page says.
    pub(super) fn facts(self) -> (&'static str, u16, &'static str, &'static str) {
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
            Self::ApprovalRequired => (
                "approval-required",
                403,
                "Another person must send the same",
                "The owner asks for two people where policies, workloads, key sets and signing keys are registered. What was sent is kept as a proposal for a day and changes nothing. Another person, with a token of another name, sends the same: then it is registered. `keyward limits list` shows what is proposed.",
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
            Self::WrongState => (
                "wrong-state",
                409,
                "As things stand this can't be done",
                "The hold was decided before, or by the same person; nothing is left to withdraw; the count is no higher than what it was to be lowered to; the token has no word where two people are asked for; the freeze was lifted before, or is an administrator's, or waits for another person. `detail` says which. Nothing was written.",
            ),
            Self::KeyUsed => (
                "idempotency-key-used",
                409,
                "The Idempotency-Key was used",
                "A key stands for one request of one caller for a day. Either another request was made with it: take another key. Or the same was, and is done, and its answer is not there to be given again: an answer with a token in it is never kept. Read what there is; a token whose text was lost is revoked, and another made.",
            ),
            Self::LaunchExpired => (
                "launch-expired",
                410,
                "The launch has expired",
                "It was not validated in time, or gave way to newer launches of the same platform. Start the guest anew.",
            ),
            Self::PreconditionFailed => (
                "precondition-failed",
                412,
                "It is not in the state that was asked for",
                "`If-Match` names a state (the `ETag` of an answer) that the object is not in any more, or `If-None-Match: *` asks that there is none yet. Read the object again and decide anew. Nothing was written.",
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
