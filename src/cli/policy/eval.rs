//! `policy eval`: what one policy of a repository says about an input.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueEnum};

use super::input::InputSource;
use super::{OWNER, bundle, loaded, refused, workers};
use crate::cli::Ended;
use crate::cli::output::{self, Format};
use crate::policy::{Asked, Evaluator as _, Input, Phase, PreparedBundle, Verdict};

#[derive(Args)]
pub(in crate::cli) struct Eval {
    /// Folder of the policy repository
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The policy: its package without `data.`, such as release.database
    #[arg(long, value_name = "NAME")]
    policy: String,
    /// Which of the two questions is asked; that of the recorded decision, or release
    #[arg(long, value_enum)]
    phase: Option<When>,
    #[command(flatten)]
    input: InputSource,
    /// Time that it may take, in milliseconds, as a server's `policy.time_limit_ms`
    #[arg(long, value_name = "MS", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    time_limit_ms: u64,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum When {
    /// May the guest be launched?
    Launch,
    /// May it have its secrets?
    Release,
}

impl Eval {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Ended> {
        let input = self.input.input(&self.policy)?;
        let phase = match self.phase {
            Some(When::Launch) => Phase::Launch,
            Some(When::Release) => Phase::Release,
            None if self.input.is_recorded() => input.phase,
            None => Phase::Release,
        };
        if input.phase != phase {
            bail!(
                "the input is of phase {}, the question of phase {}: give --phase {0}, or another input",
                input.phase.as_str(),
                phase.as_str()
            );
        }
        let verdict = self.verdict(phase, input)?;
        if !output::structured(self.output, &verdict)? {
            output::line(&text(&verdict))?;
        }
        Ok(if verdict.allow { Ended::Done } else { Ended::Denied })
    }

    fn verdict(&self, phase: Phase, input: Input) -> anyhow::Result<Verdict> {
        let bundle = bundle(&self.folder)?.map_err(refused)?;
        let workers = workers(Duration::from_millis(self.time_limit_ms));
        let (archived, facts) = loaded(&workers, &bundle, Some(&self.folder))?;
        facts
            .resolve(&self.policy)
            .map_err(|unknown| match unknown.hint {
                Some(hint) => anyhow!("{}: {hint}", unknown.message),
                None => anyhow!(unknown.message),
            })?;
        if !facts.policies.contains_key(&self.policy) {
            let library = PreparedBundle::library().map_err(refused)?;
            return Ok(library.evaluate(&self.policy, phase, &input));
        }
        let asked = Asked {
            policy: &self.policy,
            phase,
            input,
        };
        let verdicts = workers.ask(OWNER, &archived, vec![asked]);
        verdicts.into_iter().next().context("the policy gave no answer")
    }
}

fn text(verdict: &Verdict) -> String {
    let word = if verdict.allow { "ALLOWED" } else { "DENIED" };
    let mut lines = vec![format!("{word}  {}: {}", verdict.policy, verdict.reason)];
    lines.extend(
        verdict
            .deny
            .iter()
            .map(|message| format!("  deny           {message}")),
    );
    lines.extend(
        verdict
            .release_limit
            .map(|limit| format!("  release_limit  {limit}")),
    );
    lines.join("\n")
}
