//! `host`: what the hypervisor runs for a guest. `run` does it all; `launch` and `validate` are its halves, for those
//! who start their guests themselves.
//!
//! A guest is resumed only after the server released all secrets that were asked for and QEMU confirmed that they are
//! in it. Every other end leaves it paused, or ends it.

mod call;
mod launch;
mod leave;
mod machine;
mod platform;
mod run;
mod validate;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use jiff::{Span, SpanRelativeTo};
use serde::Serialize;

use super::client::{Client, DEFAULT_SERVER};
use super::credential::Credential;
use super::{Ended, output};

#[derive(Subcommand)]
pub(super) enum HostVerb {
    /// Get a session for a workload, and write the two files that QEMU's sev-guest reads
    Launch(Box<launch::Launch>),
    /// Send a guest's measurement, and get its secrets: for files, for libvirt, or into the guest
    Validate(Box<validate::Validate>),
    /// All of it: get a session, start QEMU or wait for it, get the secrets, inject them, resume the guest
    Run(Box<run::Run>),
}

/// The server's last word is no. Ends with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Denied(String);

impl HostVerb {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let ended = match self {
            Self::Launch(verb) => verb.run(),
            Self::Validate(verb) => verb.run(),
            Self::Run(verb) => verb.run(),
        };
        match ended {
            Err(error) if error.is::<Denied>() => {
                output::fail(&error);
                Ok(Ended::Denied)
            }
            other => other,
        }
    }
}

/// Which server, and who asks.
#[derive(Args)]
struct HostConnection {
    /// The server's URL
    #[arg(long, value_name = "URL", env = "KEYWARD_SERVER", default_value = DEFAULT_SERVER)]
    server: String,
    /// File that holds a token of role `host`, where a workload asks who the host is
    #[arg(
        long,
        value_name = "FILE",
        env = "KEYWARD_TOKEN_FILE",
        conflicts_with = "cert_file"
    )]
    token_file: Option<PathBuf>,
    /// Client certificate and its key in one file, PEM, in place of a token
    #[arg(long, value_name = "FILE")]
    cert_file: Option<PathBuf>,
    /// Certificate authority of the server, PEM, where the system does not know it
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// How long the server may be away, and a person may take to confirm a release, such as 90s or 1h
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    timeout: Duration,
}

impl HostConnection {
    fn client(&self) -> anyhow::Result<Client> {
        let credential = match (&self.cert_file, &self.token_file) {
            (Some(path), _) => Credential::certificate(path)?,
            (None, Some(path)) => Credential::token(path)?,
            (None, None) => Credential::Nobody,
        };
        Client::new(&self.server, credential, self.ca_file.as_ref())
    }
}

/// Tells whoever watches how far it is: on standard error, as a program reads the other.
fn say(text: &str) {
    use std::io::Write as _;
    // Who closed the terminal can't be told, and the guest must go on.
    let _ = writeln!(std::io::stderr(), "keyward: {text}");
}

/// Prints what came of it, for people as this text. It never ends the program as other verbs' output may: there are
/// files to remove, and a QEMU to watch.
fn print<T: Serialize>(format: output::Format, value: &T, text: &str) -> anyhow::Result<()> {
    let rendered = output::rendered(format, value)?;
    output::written(rendered.as_deref().unwrap_or(text)).context("standard output")
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    let span = text.parse::<Span>().ok();
    span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok())
        .and_then(|long| Duration::try_from(long).ok())
        .filter(|long| *long <= Duration::from_secs(366 * 86_400))
        .ok_or("expected a duration such as 90s, 5m or 1h")
}
