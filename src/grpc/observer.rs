//! What is seen of calls and connections, for whoever counts them.

use std::time::Duration;

use tonic::Code;

/// What became of a connection that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arrival {
    /// It is served.
    Accepted,
    /// There were too many, in all or of its address: it was closed.
    Refused,
    /// The TLS handshake failed, or took too long.
    HandshakeFailed,
}

/// Who is told. Called on the service's threads, so that it returns at once.
pub trait Observer: Send + Sync {
    /// A call came in.
    fn began(&self);

    /// It is no longer worked on: answered, or given up.
    fn ended(&self);

    /// It was answered: its name, or `other`, and the status code's.
    fn answered(&self, call: &'static str, code: &'static str, took: Duration);

    /// A connection came in.
    fn arrived(&self, arrival: Arrival);
}

/// Nobody is told.
pub struct NoObserver;

impl Observer for NoObserver {
    fn began(&self) {}

    fn ended(&self) {}

    fn answered(&self, _: &'static str, _: &'static str, _: Duration) {}

    fn arrived(&self, _: Arrival) {}
}

/// The code's name in gRPC.
pub(super) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
