//! Why objects were not registered, and which member of which object is to blame.

use std::fmt::Write as _;

use crate::domain::approval::Proposal;
use crate::policy::Diagnostic;
use crate::sealing::SealError;
use crate::store::StoreError;

/// Why objects were not registered. Nothing of them was.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// An object is not acceptable.
    #[error("{0}")]
    Invalid(Box<Unacceptable>),
    /// The policy bundle does not load.
    #[error("the policy bundle does not load: {}", render(.0))]
    Bundle(Vec<Diagnostic>),
    /// It exists, and differs.
    #[error("{}", .0.why)]
    Conflict(Box<Unacceptable>),
    /// The caller may not do that to it.
    #[error("{0}")]
    Forbidden(Box<Unacceptable>),
    /// Nothing was registered yet: another person must want the same.
    #[error(
        "nothing is registered yet, as this owner asks for two people: another person, with a token of another name, sends the same until {}",
        .0.expires
    )]
    Proposed(Box<Proposal>),
    /// It is the same person again, or there are too many proposals.
    #[error("{0}")]
    Alone(String),
    /// The object's state is not the one that the caller demands.
    #[error("{0}")]
    Precondition(&'static str),
    /// There is no such object.
    #[error("there is no such object")]
    NotFound,
    /// There is none of this name.
    #[error("{0}")]
    Missing(Box<Unacceptable>),
    /// Other changes kept coming between.
    #[error("the owner's objects are being changed by others; try again")]
    Busy,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored value does not open, or can't be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl RegisterError {
    pub(super) fn invalid(object: impl ToString, why: impl ToString) -> Self {
        Self::Invalid(Unacceptable::new(object, why))
    }

    pub(super) fn conflict(object: impl ToString, why: impl ToString) -> Self {
        Self::Conflict(Unacceptable::new(object, why))
    }

    pub(super) fn forbidden(object: impl ToString, why: impl ToString) -> Self {
        Self::Forbidden(Unacceptable::new(object, why))
    }

    pub(super) fn missing(object: impl ToString, why: impl ToString) -> Self {
        Self::Missing(Unacceptable::new(object, why))
    }

    /// The same, because of a member of the object, such as `images[0].vcpus`.
    pub(super) fn at(self, member: &str) -> Self {
        self.told(|found| found.member = Some(member.to_owned()))
    }

    /// The same, because of something that a member of the object says: a name, as it is written there.
    pub(super) fn because_of(self, member: &str, about: impl ToString, hint: Option<String>) -> Self {
        self.told(|found| {
            found.member = Some(member.to_owned());
            found.about = Some(about.to_string());
            found.hint = hint.or(found.hint.take());
        })
    }

    fn told(mut self, tell: impl FnOnce(&mut Unacceptable)) -> Self {
        if let Self::Invalid(found) | Self::Conflict(found) | Self::Forbidden(found) | Self::Missing(found) =
            &mut self
        {
            tell(found);
        }
        self
    }
}

/// An object that can't be registered, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unacceptable {
    /// Its kind and name, such as `Workload web`.
    pub object: String,
    /// What is wrong with it.
    pub why: String,
    /// What to do about it, where that can be told.
    pub hint: Option<String>,
    /// What it says that is wrong, as it is written in it, where one word of it is.
    pub about: Option<String>,
    /// The member that says it, such as `policies[0]`.
    pub member: Option<String>,
}

impl Unacceptable {
    fn new(object: impl ToString, why: impl ToString) -> Box<Self> {
        Box::new(Self {
            object: object.to_string(),
            why: why.to_string(),
            hint: None,
            about: None,
            member: None,
        })
    }
}

impl std::fmt::Display for Unacceptable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.object, self.why)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Diagnostics one after the other.
#[must_use]
pub fn render(diagnostics: &[Diagnostic]) -> String {
    let mut text = String::new();
    for (number, diagnostic) in diagnostics.iter().enumerate() {
        let separator = if number == 0 { "" } else { "; " };
        let _ = write!(text, "{separator}{}: {}", diagnostic.place(), diagnostic.message);
    }
    text
}
