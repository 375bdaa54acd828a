//! `policy eval`: what one policy of a repository says about an input.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueEnum};
use uuid::Uuid;

use super::{OWNER, bundle, loaded, refused, workers};
use crate::cli::Ended;
use crate::cli::client::OptionalConnection;
use crate::cli::output::{self, Format, Misused};
use crate::domain::Name;
use crate::domain::decision::Decision;
use crate::domain::launch::BoundVerdict;
use crate::policy::{Asked, Evaluator as _, Input, Phase, PreparedBundle, Verdict};
use crate::release::replay;

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
    /// Which of the two questions is asked; that of the recorded decision, or release
    #[arg(long, value_enum)]
    phase: Option<When>,
    /// The input as JSON (schemas/policy-input.schema.json); `-` reads it from standard input
    #[arg(long, value_name = "FILE", required_unless_present = "decision")]
    input: Option<PathBuf>,
    /// Take the input from this recorded decision of a server
    #[arg(long, value_name = "ID", conflicts_with = "input")]
    decision: Option<Uuid>,
    /// The secret of the decision that the policy is asked for
    #[arg(long, value_name = "NAME", requires = "decision")]
    secret: Option<Name>,
    #[command(flatten)]
    connection: OptionalConnection,
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
        let input = self.input()?;
        let phase = match self.phase {
            Some(When::Launch) => Phase::Launch,
            Some(When::Release) => Phase::Release,
            None if self.decision.is_some() => input.phase,
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

    fn input(&self) -> anyhow::Result<Input> {
        match (&self.input, self.decision) {
            (Some(file), _) => read(file),
            (None, Some(id)) => {
                let path = format!("/v1/decisions/{id}");
                let shown = || format!("decision {id}");
                let decision: Decision = self.connection.client()?.get(&path).with_context(shown)?;
                recorded(&decision, &self.policy, self.secret.as_ref()).with_context(shown)
            }
            (None, None) => bail!(Misused("name an input with --input or --decision".to_owned())),
        }
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

fn read(path: &Path) -> anyhow::Result<Input> {
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

/// What the policy saw when the decision was taken; for a policy that was not asked then, what it would have seen.
fn recorded(decision: &Decision, policy: &str, secret: Option<&Name>) -> anyhow::Result<Input> {
    let asked: Vec<&BoundVerdict> = decision
        .policies
        .iter()
        .filter(|said| said.verdict.policy == policy)
        .collect();
    let said = match secret {
        Some(name) => {
            if !decision.secrets.contains(name)
                && !asked.iter().any(|said| said.secret.as_ref() == Some(name))
            {
                let names = decision.secrets.iter().map(ToString::to_string);
                bail!(
                    "the secret {name} was not asked for: {}",
                    names.collect::<Vec<_>>().join(", ")
                );
            }
            let all = decision.policies.iter();
            all.clone()
                .find(|said| said.secret.as_ref() == Some(name))
                .map(|said| (name, said))
        }
        None => match asked.as_slice() {
            [] => None,
            all if all.iter().any(|said| said.secret.is_none()) => None,
            [only] => only.secret.as_ref().map(|name| (name, *only)),
            several => {
                let names = several.iter().filter_map(|said| said.secret.as_ref());
                let mut names: Vec<String> = names.map(ToString::to_string).collect();
                names.dedup();
                bail!(
                    "{policy} was asked for several secrets: name one with --secret: {}",
                    names.join(", ")
                );
            }
        },
    };
    let (secret, releases) = match said {
        Some((name, said)) => (Some(name), said.releases.as_ref()),
        None => (secret, None),
    };
    Ok(replay::input(decision, secret, releases, true)?)
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
