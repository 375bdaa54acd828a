//! Where the input of a question comes from: a file, or a recorded decision of a server.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use uuid::Uuid;

use crate::cli::client::OptionalConnection;
use crate::cli::output::Misused;
use crate::domain::Name;
use crate::domain::decision::Decision;
use crate::domain::launch::BoundVerdict;
use crate::policy::Input;
use crate::release::replay;

/// The longest input, in bytes.
const LONGEST: u64 = 1 << 20;

#[derive(Args)]
pub(super) struct InputSource {
    /// The input as JSON (schemas/policy-input.schema.json); `-` reads it from standard input
    #[arg(long, value_name = "FILE", required_unless_present = "decision")]
    input: Option<PathBuf>,
    /// Take the input from this recorded decision of a server
    #[arg(long, value_name = "ID", conflicts_with = "input")]
    decision: Option<Uuid>,
    /// The secret of the decision that the policy is asked for
    #[arg(long, value_name = "NAME", requires = "decision", conflicts_with = "input")]
    secret: Option<Name>,
    #[command(flatten)]
    connection: OptionalConnection,
}

impl InputSource {
    /// Whether it is what was recorded with a decision.
    pub(super) fn is_recorded(&self) -> bool {
        self.decision.is_some()
    }

    /// What this policy sees.
    pub(super) fn input(&self, policy: &str) -> anyhow::Result<Input> {
        let mut inputs = self.inputs(&[policy.to_owned()])?;
        inputs.pop().context("there is no input")
    }

    /// What each of these policies sees.
    pub(super) fn inputs(&self, policies: &[String]) -> anyhow::Result<Vec<Input>> {
        match (&self.input, self.decision) {
            (Some(file), _) => {
                let input = read(file)?;
                Ok(policies.iter().map(|_| input.clone()).collect())
            }
            (None, Some(id)) => {
                let path = format!("/v1/decisions/{id}");
                let shown = || format!("decision {id}");
                let decision: Decision = self.connection.client()?.get(&path).with_context(shown)?;
                let recorded =
                    |policy: &String| recorded(&decision, policy, self.secret.as_ref()).with_context(shown);
                policies.iter().map(recorded).collect()
            }
            (None, None) => bail!(Misused("name an input with --input or --decision".to_owned())),
        }
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
