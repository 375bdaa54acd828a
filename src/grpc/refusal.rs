//! How a refusal reads. Before a guest was measured all read the same; after that no reason leaves either, but the id of
//! the decision does, which leads the owner to it.

use tonic::{Code, Status};

use crate::release::Refusal;

/// What every refusal says.
const DENIED: &str = "denied";

/// A refusal before anything is attested, whatever the reason.
pub(super) fn denied() -> Status {
    Status::new(Code::PermissionDenied, DENIED)
}

/// Of a call that measures nothing, or before it did.
pub(super) fn unproved(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::TooMany { .. } => Status::new(Code::ResourceExhausted, "too many requests: come back later"),
        Refusal::Unavailable { .. } => Status::new(Code::Unavailable, "not now: come back later"),
        _ => denied(),
    }
}

/// Of a call whose denials are decisions about a guest that was measured.
pub(super) fn proved(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::Denied { decision } => {
            Status::new(Code::PermissionDenied, format!("{DENIED} (decision {decision})"))
        }
        Refusal::ConfirmationRequired {
            decision,
            hold,
            retry_after,
        } => {
            let seconds = retry_after.as_secs();
            let text = format!(
                "the release waits for the owner's confirmation: come back in {seconds} s (hold {hold}, decision {decision})"
            );
            Status::new(Code::FailedPrecondition, text)
        }
        other => unproved(other),
    }
}
