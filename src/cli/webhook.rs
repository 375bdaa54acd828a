//! Webhooks while the server runs, and `webhook test`.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::{Ended, output, serve};
use crate::config::{Config, WebhookConfig, WebhookEvent};
use crate::domain::notice::{Notice, What};
use crate::domain::{Clock as _, SystemClock};
use crate::release::Service;
use crate::sev::SystemRandom;
use crate::store::Told;
use crate::webhook::{Endpoint, Secret, Step, Webhook};

/// How often it is looked whether something is due.
const LOOK: Duration = Duration::from_millis(500);
/// The longest secret file.
const SECRETS: u64 = 4096;

#[derive(Subcommand)]
pub(super) enum WebhookVerb {
    /// Call a webhook of the configuration once, with an event of type `webhook.test`
    Test(Test),
}

#[derive(Args)]
pub(super) struct Test {
    /// The webhook's name in the configuration
    name: String,
    /// Folder that `init` made
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Configuration. Default: keyward.yaml in the data folder, if there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl WebhookVerb {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        match self {
            Self::Test(verb) => verb.run(),
        }
    }
}

impl Test {
    fn run(self) -> anyhow::Result<Ended> {
        let config = serve::configuration(&self.data_dir, self.config.as_deref())?;
        let Some(webhook) = config.webhooks.iter().find(|webhook| webhook.name == self.name) else {
            bail!("the configuration has no webhook {:?}", self.name);
        };
        let now = SystemClock.now();
        let what = What::Test {
            webhook: self.name.clone(),
        };
        let body = serde_json::to_string(&Notice { timestamp: now, what })?;
        made(webhook)?
            .call(uuid::Uuid::new_v4(), &body, now)
            .with_context(|| format!("the webhook {} did not take the call", self.name))?;
        output::line(&format!("The webhook {} took the call.", self.name))?;
        Ok(Ended::Done)
    }
}

/// Threads that deliver, one for each webhook, so that one that hangs delays no other. They end when this is dropped.
pub(super) struct Webhooks {
    stop: Vec<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Webhooks {
    /// Begins to deliver.
    pub(super) fn start(service: &Arc<Service>, webhooks: Vec<Webhook>) -> anyhow::Result<Self> {
        let mut all = Self {
            stop: Vec::new(),
            threads: Vec::new(),
        };
        for webhook in webhooks {
            let (stop, stopped) = channel();
            let service = service.clone();
            let thread = std::thread::Builder::new()
                .name("webhook".to_owned())
                .spawn(move || deliver(&webhook, &service, &stopped))?;
            all.stop.push(stop);
            all.threads.push(thread);
        }
        Ok(all)
    }
}

/// The webhooks of the configuration, once the store knows who is told of what: from then on it keeps calls for them.
pub(super) fn configured(service: &Service, config: &Config) -> anyhow::Result<Vec<Webhook>> {
    let told: Vec<Told> = config.webhooks.iter().map(told).collect::<anyhow::Result<_>>()?;
    let webhooks = config.webhooks.iter().map(made).collect::<anyhow::Result<_>>()?;
    service.store().set_webhooks(&told)?;
    Ok(webhooks)
}

impl Drop for Webhooks {
    fn drop(&mut self) {
        self.stop.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn deliver(webhook: &Webhook, service: &Service, stopped: &Receiver<()>) {
    loop {
        while matches!(stopped.try_recv(), Err(TryRecvError::Empty)) {
            let name = &webhook.name;
            match webhook.step(service.store(), &SystemRandom, service.now()) {
                Ok(Step::Idle) => break,
                Ok(Step::Delivered) => {}
                Ok(Step::Failed { why }) => {
                    log::warn!("the webhook {name} did not take a call, which is tried again: {why}")
                }
                Ok(Step::GivenUp { why }) => {
                    log::error!("the webhook {name} did not take a call, which is given up: {why}")
                }
                Err(error) => {
                    log::error!("the webhook {name}: {error}");
                    break;
                }
            }
        }
        if stopped.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

fn told(webhook: &WebhookConfig) -> anyhow::Result<Told> {
    let owners = webhook.owners.iter().map(|owner| {
        owner
            .parse()
            .with_context(|| format!("owners of the webhook {}: {owner:?}", webhook.name))
    });
    let owners = owners.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Told {
        name: webhook.name.clone(),
        holds: webhook.events.contains(&WebhookEvent::Hold),
        checkpoints: webhook.events.contains(&WebhookEvent::Checkpoint),
        owners: (!owners.is_empty()).then_some(owners),
    })
}

pub(super) fn made(webhook: &WebhookConfig) -> anyhow::Result<Webhook> {
    let of = |what: &str, path: &Path| format!("{what} of the webhook {}: {}", webhook.name, path.display());
    let secrets = secrets(&webhook.secret_file).with_context(|| of("secret", &webhook.secret_file))?;
    let authorities = webhook
        .ca_file
        .as_ref()
        .map(|path| std::fs::read(path).with_context(|| of("authorities", path)));
    let authorities = authorities.transpose()?;
    let timeout = Duration::from_secs(webhook.timeout_seconds.into());
    let endpoint = Endpoint::new(&webhook.url, timeout, authorities.as_deref())
        .with_context(|| of("authorities", webhook.ca_file.as_deref().unwrap_or(Path::new(""))))?;
    Ok(Webhook {
        name: webhook.name.clone(),
        endpoint,
        secrets,
        max_tries: webhook.max_tries,
    })
}

/// The secrets of a file, one on each line.
fn secrets(path: &Path) -> anyhow::Result<Vec<Secret>> {
    let file = std::fs::File::open(path)?;
    let mode = file.metadata()?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        bail!(
            "it is open to others (mode {mode:04o}): run `chmod 600 {}`",
            path.display()
        );
    }
    let mut text = Zeroizing::new(String::new());
    file.take(SECRETS).read_to_string(&mut text)?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let secrets: Vec<Secret> = lines.map(Secret::parse).collect::<Result<_, _>>()?;
    if secrets.is_empty() {
        bail!("it is empty: {}", crate::webhook::SecretError);
    }
    Ok(secrets)
}
