//! `policy eval`: what one policy of a repository says about an input.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueEnum};

use super::{OWNER, bundle, in_folder, workers};
use crate::cli::Ended;
use crate::cli::output::{self, Format};
use crate::policy::{
    Archived, Asked, Diagnostic, Evaluator as _, Input, LoadError, Phase, PreparedBundle, Verdict,
};

/// The longest input, in bytes.
const LONGEST: u64 = 1 << 20;

#[derive(Args)]
pub(in crate::cli) struct Eval {
    /// Folder of the policy repository
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The policy: its package without `data.`, such as release.database
    #[arg(long, value_name = "NAME")]
    policy: String,
    /// Which of the two questions is asked
    #[arg(long, value_enum, default_value = "release")]
    phase: When,
    /// The input as JSON (schemas/policy-input.schema.json); `-` reads it from standard input
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
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
        let phase = match self.phase {
            When::Launch => Phase::Launch,
            When::Release => Phase::Release,
        };
        let input = read(&self.input)?;
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
        let archived = Archived::from(&bundle);
        let workers = workers(Duration::from_millis(self.time_limit_ms));
        let facts = workers
            .load(OWNER, &archived, false)
            .map_err(|error| match error {
                LoadError::Refused(found) => refused(in_folder(found, &self.folder)),
                LoadError::NotNow(why) => anyhow!(why),
            })?;
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

pub(super) fn read(path: &Path) -> anyhow::Result<Input> {
    let mut text = String::new();
    let shown = if path == Path::new("-") {
        let stdin = std::io::stdin().lock();
        stdin
            .take(LONGEST)
            .read_to_string(&mut text)
            .context("standard input")?;
        "standard input".to_owned()
    } else {
        let shown = path.display().to_string();
        let file = std::fs::File::open(path).with_context(|| shown.clone())?;
        file.take(LONGEST)
            .read_to_string(&mut text)
            .with_context(|| shown.clone())?;
        shown
    };
    let mut json = serde_json::Deserializer::from_str(&text);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let member = if path == "." {
            String::new()
        } else {
            format!(" `{path}`:")
        };
        anyhow!(
            "{shown} does not fit schemas/policy-input.schema.json:{member} {}",
            error.into_inner()
        )
    })
}

pub(super) fn refused(found: Vec<Diagnostic>) -> anyhow::Error {
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    anyhow!(found.join("\n\n"))
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
