//! `policy check`: whether a repository would be registered, and what is wrong with it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};

use super::{OWNER, bundle, in_folder, workers};
use crate::cli::{Ended, output};
use crate::policy::{Archived, Diagnostic, Evaluator as _, LoadError};

#[derive(Args)]
pub(in crate::cli) struct Check {
    /// Folder of the policy repository
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Time that the trial of one policy may take, in milliseconds, as a server's `policy.time_limit_ms`
    #[arg(long, value_name = "MS", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    time_limit_ms: u64,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "pretty", value_name = "FORMAT")]
    output: Form,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// For people
    Pretty,
    /// For programs
    Json,
    /// Annotations in a workflow's log
    Github,
    /// SARIF 2.1.0, for code scanning
    Sarif,
}

/// What was found.
#[derive(Serialize)]
struct Report {
    policies: Vec<String>,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl Check {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Ended> {
        let report = self.report()?;
        match self.output {
            Form::Pretty => pretty(&report)?,
            Form::Json => output::line(&serde_json::to_string_pretty(&report)?)?,
            Form::Github => github(&report)?,
            Form::Sarif => output::line(&serde_json::to_string_pretty(&sarif(&report))?)?,
        }
        Ok(if report.errors.is_empty() {
            Ended::Done
        } else {
            Ended::Failed
        })
    }

    fn report(&self) -> anyhow::Result<Report> {
        let failed = |errors| Report {
            policies: Vec::new(),
            errors,
            warnings: Vec::new(),
        };
        let bundle = match bundle(&self.folder)? {
            Ok(bundle) => bundle,
            Err(errors) => return Ok(failed(errors)),
        };
        let workers = workers(Duration::from_millis(self.time_limit_ms));
        match workers.load(OWNER, &Archived::from(&bundle), true) {
            Ok(facts) => Ok(Report {
                policies: facts.packages(),
                errors: Vec::new(),
                warnings: in_folder(facts.warnings, &self.folder),
            }),
            Err(LoadError::Refused(found)) => Ok(failed(in_folder(found, &self.folder))),
            Err(LoadError::NotNow(why)) => bail!(why),
        }
    }
}

impl Report {
    /// Errors first.
    fn all(&self) -> impl Iterator<Item = &Diagnostic> {
        self.errors.iter().chain(&self.warnings)
    }
}

fn pretty(report: &Report) -> anyhow::Result<()> {
    for found in report.all() {
        output::line(&format!("{found}\n"))?;
    }
    let warned = match report.warnings.len() {
        0 => "Fine".to_owned(),
        1 => "Fine, with 1 warning".to_owned(),
        count => format!("Fine, with {count} warnings"),
    };
    output::line(&match report.errors.len() {
        0 => format!("{warned}: {}", report.policies.join(", ")),
        1 => "1 error: the server would refuse this repository".to_owned(),
        count => format!("{count} errors: the server would refuse this repository"),
    })
}

/// GitHub's workflow commands, one line each.
fn github(report: &Report) -> anyhow::Result<()> {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    for found in report.all() {
        let message = match &found.hint {
            Some(hint) => format!("{} ({hint})", found.message),
            None => found.message.clone(),
        };
        let place = match found.file.as_str() {
            "" => String::new(),
            file => format!(
                " file={},line={},col={}",
                property(file),
                found.line.max(1),
                found.column.max(1)
            ),
        };
        output::line(&format!(
            "::{}{place}::{}",
            found.severity.as_str(),
            data(&message)
        ))?;
    }
    Ok(())
}

fn sarif(report: &Report) -> Value {
    let results = report.all().map(|found| {
        let message = match &found.hint {
            Some(hint) => format!("{}. {hint}", found.message),
            None => found.message.clone(),
        };
        let places = match found.file.as_str() {
            "" => Vec::new(),
            file => {
                let region = json!({"startLine": found.line.max(1), "startColumn": found.column.max(1)});
                let place = json!({"artifactLocation": {"uri": file}, "region": region});
                vec![json!({"physicalLocation": place})]
            }
        };
        json!({"level": found.severity.as_str(), "message": {"text": message}, "locations": places})
    });
    let driver = json!({"name": "keyward policy check", "version": env!("CARGO_PKG_VERSION")});
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results.collect::<Vec<_>>()}],
    })
}
