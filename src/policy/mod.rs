//! Rego: text and documents in, decisions out.
//!
//! In come a [`Bundle`] (an owner's modules and data) and an [`Input`] (what was proved and what was claimed about
//! one launch); out come a [`Verdict`] and, for whatever can't be loaded, [`Diagnostic`]s with file and line.
//! Owners' text is hostile until proven otherwise, so it passes in this order: [`scan`](PreparedBundle::prepare) of the text, parsing,
//! static checks, a trial evaluation; and each evaluation has a big stack and its time. What gets past all that
//! meets the walls of a [`worker`] process, behind the trait [`Evaluator`].
//! Nothing here reads files, the network or a clock's date, and nothing else of the crate is known here.

mod archive;
mod builtins;
mod bundle;
mod capabilities;
mod check;
mod conflicts;
mod contract;
mod decision;
mod diagnostic;
mod diff;
mod docs;
mod documents;
mod evaluator;
mod example;
mod explain;
mod graph;
mod guards;
mod input;
mod library;
mod limits;
mod load;
mod manifest;
mod members;
mod missing;
mod names;
mod nullable;
pub mod opa;
mod prepared;
mod question;
mod safety;
mod scan;
mod selection;
mod syntax;
mod test;
mod unasked;
mod unproved;
pub mod worker;

pub use archive::ArchiveError;
pub use builtins::allowed_builtins;
pub use bundle::{
    Bundle, MAX_BUNDLE_BYTES, MAX_DATA_BYTES, MAX_FILE_BYTES, MAX_FILES, MAX_LINE_BYTES, MAX_PATH_BYTES,
};
pub use capabilities::capabilities;
pub use decision::{ErrorKind, EvaluationError, Phase, Verdict};
pub use diagnostic::{Diagnostic, Severity};
pub use diff::{BundleDiff, Change, MemberChange, PackageChange, RuleChange, diff};
pub use docs::{LibraryRule, library_pages, library_rules, policy_with};
pub use evaluator::{Archived, Asked, BundleFacts, Evaluator, LoadError};
pub use explain::{
    ConditionOutcome, ExplainedCondition, ExplainedDefinition, ExplainedRule, Explanation, LookedAt,
    explanation_lines,
};
pub use input::{
    Attested, Claimed, DigestSource, Fingerprints, Host, INPUT_VERSION, Image, Input, Platform, PolicyBits,
    Registration, Releases, Scheme, Workload, input_schema,
};
pub use library::library_modules;
pub use limits::{Limits, STACK};
pub use load::PolicyFacts;
pub use manifest::Manifest;
pub use prepared::PreparedBundle;
pub use test::{Covered, TestOutcome, TestReport, TestResult, run_tests};
