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
    warnings: Vec<String>,
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
                warnings: facts.warnings,
            }),
            Err(LoadError::Refused(found)) => Ok(failed(in_folder(found, &self.folder))),
            Err(LoadError::NotNow(why)) => bail!(why),
        }
    }
}

fn pretty(report: &Report) -> anyhow::Result<()> {
    for error in &report.errors {
        output::line(&format!("{error}\n"))?;
    }
    for warning in &report.warnings {
        output::line(&format!("warning: {warning}\n"))?;
    }
    output::line(&match report.errors.len() {
        0 => format!("Fine: {}", report.policies.join(", ")),
        1 => "1 error: the server would refuse this repository".to_owned(),
        count => format!("{count} errors: the server would refuse this repository"),
    })
}

/// GitHub's workflow commands, one line each.
fn github(report: &Report) -> anyhow::Result<()> {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    for error in &report.errors {
        let message = match &error.hint {
            Some(hint) => format!("{} ({hint})", error.message),
            None => error.message.clone(),
        };
        let place = match error.file.as_str() {
            "" => String::new(),
            file => format!(
                " file={},line={},col={}",
                property(file),
                error.line.max(1),
                error.column.max(1)
            ),
        };
        output::line(&format!("::error{place}::{}", data(&message)))?;
    }
    for warning in &report.warnings {
        output::line(&format!("::warning::{}", data(warning)))?;
    }
    Ok(())
}

fn sarif(report: &Report) -> Value {
    let errors = report.errors.iter().map(|error| {
        let message = match &error.hint {
            Some(hint) => format!("{}. {hint}", error.message),
            None => error.message.clone(),
        };
        let places = match error.file.as_str() {
            "" => Vec::new(),
            file => {
                let region = json!({"startLine": error.line.max(1), "startColumn": error.column.max(1)});
                let place = json!({"artifactLocation": {"uri": file}, "region": region});
                vec![json!({"physicalLocation": place})]
            }
        };
        json!({"level": "error", "message": {"text": message}, "locations": places})
    });
    let warnings = report
        .warnings
        .iter()
        .map(|warning| json!({"level": "warning", "message": {"text": warning}}));
    let driver = json!({"name": "keyward policy check", "version": env!("CARGO_PKG_VERSION")});
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": errors.chain(warnings).collect::<Vec<_>>()}],
    })
}
