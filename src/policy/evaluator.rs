//! Evaluation of owners' bundles, wherever it happens: the interface, and what is known of a bundle that loaded.
//!
//! Owners' text can abort or exhaust the process that evaluates it, whatever limits are set, so a server evaluates it
//! in others. [`worker`](super::worker) is what runs there.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bundle::Bundle;
use super::decision::{EvaluationError, Phase, Verdict};
use super::diagnostic::{Diagnostic, nearest};
use super::explain::Explanation;
use super::input::Input;
use super::load::PolicyFacts;
use super::prepared::PreparedBundle;

/// A bundle in its canonical form, which names it.
#[derive(Clone)]
pub struct Archived {
    /// SHA-256 of the bytes.
    pub digest: [u8; 32],
    /// What [`Bundle::to_archive`] gives.
    pub bytes: Arc<[u8]>,
}

impl From<&Bundle> for Archived {
    fn from(bundle: &Bundle) -> Archived {
        Archived {
            digest: bundle.digest(),
            bytes: bundle.to_archive().into(),
        }
    }
}

/// One policy to be asked in one phase about one input.
pub struct Asked<'a> {
    /// The policy's name.
    pub policy: &'a str,
    /// The phase.
    pub phase: Phase,
    /// What it sees. `registration` is taken out: it is for the library's policies only.
    pub input: Input,
}

/// What is known of a bundle that loaded.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct BundleFacts {
    /// Its policies by name.
    pub policies: BTreeMap<String, PolicyFacts>,
    /// What was found that does not keep it from being loaded.
    pub warnings: Vec<Diagnostic>,
}

impl BundleFacts {
    /// What is known of a policy: for names that are about to be bound.
    ///
    /// # Errors
    /// The bundle has no such package, or the package has no rule `allow`; names the nearest policy.
    pub fn resolve(&self, policy: &str) -> Result<PolicyFacts, Diagnostic> {
        if let Some(facts) = self.policies.get(policy) {
            return Ok(facts.clone());
        }
        if is_builtin(policy)
            && let Ok(library) = PreparedBundle::library()
            && let Some(facts) = library.facts().policies.get(policy)
        {
            return Ok(facts.clone());
        }
        let diagnostic = Diagnostic::on_file("", format!("there is no policy `{policy}`"));
        let bare = policy.strip_prefix("data.").unwrap_or(policy);
        let bare = ["allow", "deny"]
            .iter()
            .find_map(|rule| bare.strip_suffix(&format!(".{rule}")))
            .unwrap_or(bare);
        let near = nearest(bare, self.policies.keys().map(String::as_str));
        Err(match near {
            Some(near) => diagnostic.with_hint(format!("did you mean `{near}`?")),
            None => diagnostic.with_hint(format!(
                "a policy is a package with a rule `allow`; this bundle has {}",
                self.packages().join(", ")
            )),
        })
    }

    /// The names of all policies: packages that have a rule `allow`.
    pub fn packages(&self) -> Vec<String> {
        self.policies.keys().cloned().collect()
    }
}

/// Why a bundle can't be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// Something is wrong with it.
    Refused(Vec<Diagnostic>),
    /// There was no time or no room for it; there may be later.
    NotNow(String),
}

/// Loads and evaluates owners' bundles where they hurt nobody else.
pub trait Evaluator: Send + Sync {
    /// Loads a bundle and checks it. With `trial`, each of its policies is asked once, to find what fails at every
    /// request.
    ///
    /// # Errors
    /// What is wrong with the bundle, told apart from there being no time for it now.
    fn load(&self, owner: &str, bundle: &Archived, trial: bool) -> Result<BundleFacts, LoadError>;

    /// Asks policies of a bundle, one after the other. Whatever goes wrong is a verdict that denies.
    ///
    /// After one that took all its time, or crashed, or could not be asked, no other is asked: there are fewer
    /// verdicts than questions then, and the last one denies.
    fn ask(&self, owner: &str, bundle: &Archived, questions: Vec<Asked<'_>>) -> Vec<Verdict>;

    /// Explains what a policy of a bundle says: [`Explanation`].
    ///
    /// # Errors
    /// Why it can't be explained: the policy took all its time, or crashed, or there is none of its name.
    fn explain(
        &self,
        owner: &str,
        bundle: &Archived,
        question: Asked<'_>,
    ) -> Result<Explanation, EvaluationError>;
}

/// Names under `keyward` are the server's own.
pub(super) fn is_builtin(policy: &str) -> bool {
    policy == "keyward" || policy.starts_with("keyward.")
}
