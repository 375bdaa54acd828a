//! `psp load`: drives a running server with many software platforms, and tells how it did.

mod budget;
mod drive;
mod prepare;
mod record;
mod report;
mod target;
mod wire;

use std::io::IsTerminal as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use uuid::Uuid;

use super::{Form, ca_path, chain, platform, private};
use crate::cli::Ended;
use crate::cli::client::{Client, DEFAULT_SERVER};
use crate::cli::credential::Credential;
use crate::cli::output::{Format, Misused};
use budget::Measured;
use drive::Plan;
use target::{Mode, Target};
use wire::Server;

/// Guests that are launched for validations where nothing says how many.
const GUESTS: usize = 5000;
/// Guests that are launched for them at most, unless it is said.
const MOST_GUESTS: u64 = 1_000_000;

#[derive(Args)]
#[command(
    after_help = "The server must trust the platforms' root, as ARK (or ASK and ARK, for --form signed) under \
                  `danger_extra_roots`. Launches that are never validated wait for their time: bounds on them \
                  (launch.pending_per_address, pending_per_pdh, pending_per_workload) answer 429 when they are \
                  reached; raise them for a test.\n\nWith a token secrets and workloads `psp-load/…` are registered, \
                  with the label made-by=psp-load, and stay: another run finds them again."
)]
pub(in crate::cli) struct Load {
    /// Platforms that `psp new` made; more are made under the first one's authority
    #[arg(required = true, value_name = "PLATFORM")]
    files: Vec<PathBuf>,
    /// What is asked
    #[arg(long, value_enum, default_value = "flow", value_name = "launch|validate|flow")]
    mode: Mode,
    /// Open loop: so many begin each second, whatever became of those before; latencies count from when each should
    /// have begun
    #[arg(long, value_name = "PER-SECOND", value_parser = positive)]
    rate: Option<f64>,
    /// Connections. Without --rate each asks again when it was answered (closed loop)
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    concurrency: u32,
    /// Seconds before anything is counted
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    warm_up: Duration,
    /// Seconds that are counted
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = seconds)]
    duration: Duration,
    /// End after this many, those of the warm-up among them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// Try a request again that was answered 429 or 503, or whose connection broke
    #[arg(long, value_name = "TIMES", default_value_t = 0)]
    retries: u32,
    /// Platforms in all
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    platforms: u32,
    /// Addresses that they are at, told as a proxy does; the server must have this machine among `trusted_proxies`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    addresses: Option<u32>,
    /// Which chain they present
    #[arg(long, value_enum, default_value = "full", value_name = "FORM")]
    form: Form,
    /// Workloads to register and launch
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    workloads: u32,
    /// Secrets of each
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    secrets: u32,
    /// Launch digests of each; the guests' is the last
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    digests: u32,
    /// Policy bound to each; several may be
    #[arg(long = "bind", value_name = "POLICY", default_value = "keyward.workload")]
    policies: Vec<String>,
    /// Instead of registering: a workload that is there; several may be
    #[arg(long = "workload", value_name = "UUID", conflicts_with_all = ["workloads", "secrets", "digests", "policies"])]
    existing: Vec<Uuid>,
    /// What guests are loaded with: its digest is the launch digest
    #[arg(long, value_name = "FILE")]
    firmware: Option<PathBuf>,
    /// Guests that are launched beforehand to be validated
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    guests: Option<u32>,
    /// Also measure the cryptography alone and a durable append, and say what was made of them
    #[arg(long)]
    budget: bool,
    /// Where to append for it: on the server's disk
    #[arg(long, value_name = "DIR", default_value = ".", requires = "budget")]
    budget_dir: PathBuf,
    /// The server's URL
    #[arg(long, value_name = "URL", env = "KEYWARD_SERVER", default_value = DEFAULT_SERVER)]
    server: String,
    /// File that holds the token of an owner, to register with
    #[arg(
        long,
        value_name = "FILE",
        env = "KEYWARD_TOKEN_FILE",
        required_unless_present = "existing"
    )]
    token_file: Option<PathBuf>,
    /// Certificate authority of the server, PEM, where the system does not know it
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate: &f64| rate.is_finite() && *rate > 0.0 && *rate <= 1e6)
        .ok_or_else(|| "expected a number above 0, such as 250".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds: &f64| (0.0..=86_400.0).contains(seconds))
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "expected seconds, such as 20 or 0.5".to_owned())
}

impl Load {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        if self.duration.is_zero() {
            bail!(Misused("--duration 0 would measure nothing".to_owned()));
        }
        let server = Server::parse(&self.server, self.ca_file.as_deref())?;
        let mut target = self.target()?;
        let plan = Plan {
            rate: self.rate,
            connections: usize::try_from(self.concurrency)?,
            warm_up: self.warm_up,
            duration: self.duration,
            requests: self.requests,
            retries: self.retries,
        };
        if self.mode == Mode::Validate {
            let guests = match (self.guests, plan.most()) {
                (Some(guests), _) => usize::try_from(guests)?,
                (None, Some(most)) if most > MOST_GUESTS => bail!(
                    "this many validations need {most} guests, which are launched before and held in memory: ask for at most {MOST_GUESTS}, or say --guests"
                ),
                (None, Some(most)) => usize::try_from(most)?,
                (None, None) => GUESTS,
            };
            let bar = progress("guests launched");
            target.prepared = prepare::guests(&server, &target, guests, &bar)?;
            bar.finish_and_clear();
        }
        let mut measured = Measured::none();
        let pdh = target.machines.first().map(|machine| machine.platform.pdh());
        let mut measure = || match (&pdh, self.budget) {
            (Some(pdh), true) => measured.again(pdh, &self.budget_dir),
            _ => Ok(()),
        };
        measure()?;
        let bar = progress("of the time");
        bar.set_length(u64::try_from((plan.warm_up + plan.duration).as_millis())?);
        let outcome = drive::run(&server, &plan, &target, &bar)?;
        bar.finish_and_clear();
        measure()?;
        let budget = self.budget.then_some(&measured);
        let report = report::Report::new(&self, &target, &plan, &outcome, budget);
        report.print(self.output)?;
        if let Some(why) = &outcome.gone {
            return Err(prepare::unreachable(&server, why).context("the run ended early"));
        }
        Ok(Ended::Done)
    }

    fn target(&self) -> anyhow::Result<Target> {
        let firmware = match &self.firmware {
            Some(path) => std::fs::read(path).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?,
            None => prepare::FIRMWARE.to_vec(),
        };
        if firmware.is_empty() || !firmware.len().is_multiple_of(16) {
            bail!(Misused(
                "--firmware: a PSP loads multiples of 16 bytes".to_owned()
            ));
        }
        let workloads = if self.existing.is_empty() {
            let Some(token) = &self.token_file else {
                bail!(Misused(
                    "workloads are registered with a token: name its file with --token-file".to_owned()
                ));
            };
            let client = Client::new(&self.server, Credential::token(token)?, self.ca_file.as_ref())?;
            let wanted = prepare::Wanted {
                workloads: usize::try_from(self.workloads)?,
                secrets: usize::try_from(self.secrets)?,
                digests: usize::try_from(self.digests)?,
                firmware: &firmware,
                policies: &self.policies,
            };
            let bar = progress("objects registered");
            let registered = prepare::registered(&client, &wanted, &bar)?;
            bar.finish_and_clear();
            registered
        } else {
            self.existing.clone()
        };
        let bar = progress("platforms made");
        let mut machines = prepare::machines(&self.files, usize::try_from(self.platforms)?, self.form, &bar)?;
        bar.finish_and_clear();
        if let Some(addresses) = self.addresses {
            for (number, machine) in (0..addresses).cycle().zip(&mut machines) {
                // 10.0.0.0/8 is nobody's.
                machine.address = Some(Ipv4Addr::from_bits(0x0a00_0001 + number));
            }
        }
        Ok(Target {
            mode: self.mode,
            machines,
            workloads,
            firmware,
            prepared: Vec::new(),
        })
    }
}

/// A bar on a terminal; elsewhere nothing.
fn progress(what: &'static str) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template("{wide_bar} {percent}% {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(0), target)
        .with_style(style)
        .with_message(what)
}
