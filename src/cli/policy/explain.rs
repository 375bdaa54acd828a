//! `policy explain`: why policies of a repository decide as they do.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;

use super::input::InputSource;
use super::{OWNER, bundle, loaded, refused, workers};
use crate::cli::Ended;
use crate::cli::decision_text::printable;
use crate::cli::output::{self, Format};
use crate::policy::{Asked, Evaluator as _, Explanation, PreparedBundle, explanation_lines};

#[derive(Args)]
pub(in crate::cli) struct Explain {
    /// Folder of the policy repository
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// A policy: its package without `data.`, such as release.database. May be given several times; all of the
    /// repository's without it
    #[arg(long, value_name = "NAME")]
    policy: Vec<String>,
    #[command(flatten)]
    input: InputSource,
    /// Time that a policy may take, in milliseconds, as a server's `policy.time_limit_ms`
    #[arg(long, value_name = "MS", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    time_limit_ms: u64,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

impl Explain {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Ended> {
        let explained = self.explanations()?;
        if !output::structured(self.output, &explained)? {
            for (at, explanation) in explained.iter().enumerate() {
                if at > 0 {
                    output::line("")?;
                }
                for line in explanation_lines(explanation) {
                    output::line(&printable(&line))?;
                }
            }
        }
        let allowed = explained.iter().all(|explanation| explanation.allow);
        Ok(if allowed { Ended::Done } else { Ended::Denied })
    }

    fn explanations(&self) -> anyhow::Result<Vec<Explanation>> {
        let bundle = bundle(&self.folder)?.map_err(refused)?;
        let workers = workers(Duration::from_millis(self.time_limit_ms));
        let (archived, facts) = loaded(&workers, &bundle, Some(&self.folder))?;
        let policies = if self.policy.is_empty() {
            facts.packages()
        } else {
            self.policy.clone()
        };
        for policy in &policies {
            facts.resolve(policy).map_err(|unknown| match unknown.hint {
                Some(hint) => anyhow!("{}: {hint}", unknown.message),
                None => anyhow!(unknown.message),
            })?;
        }
        let mut explained = Vec::with_capacity(policies.len());
        for (policy, input) in policies.iter().zip(self.input.inputs(&policies)?) {
            let phase = input.phase;
            let answer = if facts.policies.contains_key(policy) {
                workers.explain(OWNER, &archived, Asked { policy, phase, input })
            } else {
                let library = PreparedBundle::library().map_err(refused)?;
                library.explain(policy, phase, &input)
            };
            let explanation =
                answer.map_err(|error| anyhow!("{policy} can't be explained: {}", error.message))?;
            explained.push(explanation);
        }
        Ok(explained)
    }
}
