//! `serve`: the server on a data folder.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use super::audit::log_key;
use super::checkpoints::Checkpoints;
use super::notify::Notify;
use super::reload::{Listener, Reloads};
use super::signals::{Heed, Signals};
use super::webhook::{self, Webhooks};
use super::{Ended, database, keys, listeners, logging, output, simple_kbs};
use crate::config::{Config, ExtraRoot};
use crate::domain::{Clock as _, SystemClock};
use crate::grpc;
use crate::http::{self, LiveTls, TlsFiles};
use crate::identity::Identities;
use crate::isolation::{Launcher, Workers};
use crate::kds::{self, Bounds, CekSource, HttpService, NoService, Queue};
use crate::metrics::Metrics;
use crate::policy::{Evaluator, Limits};
use crate::release::{Kept, Parts, Service, Settings};
use crate::sev::{CaCertificate, SystemRandom, TrustedRoots};
use crate::store::{Recovery as _, Store};

/// How long it may take after that to write down what is left, and to sign the last checkpoint.
const FINISH: Duration = Duration::from_secs(10);
/// How often what has had its time is forgotten.
const TIDY: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(super) struct Serve {
    /// Folder that `init` made
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Address and port to listen on, such as 127.0.0.1:8443
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    listen: Option<SocketAddr>,
    /// Configuration. Default: keyward.yaml in the data folder, if there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The key file, where it is not the one that `init` was told
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Serve a database that is older than the checkpoints outside (`audit.checkpoint_file`), this once: every release
    /// that has a limit is held until a person resets its count
    #[arg(long)]
    accept_rollback: bool,
}

/// An address, or a host's name, with a port.
fn address(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text
        .to_socket_addrs()
        .map_err(|e| format!("expected HOST:PORT: {e}"))?;
    addresses
        .next()
        .ok_or_else(|| "this host has no address".to_owned())
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let mut config = configuration(&self.data_dir, self.config.as_deref())?;
        config.listen = self.listen.unwrap_or(config.listen);
        if self.key_file.is_some() {
            (config.key_file, config.key_provider) = (self.key_file, None);
        }
        logging::serving(&config)?;
        listeners::check(&config)?;
        let tls = config.tls.as_ref().map(|tls| LiveTls::read(TlsFiles::from(tls)));
        let tls = tls.transpose()?;
        let simple_kbs = config.simple_kbs.as_ref();
        let metrics = listeners::metrics(&config);
        let service = Arc::new(service(&self.data_dir, &config, metrics.as_deref())?);
        let simple_kbs = simple_kbs.map(|wanted| simple_kbs::Prepared::new(wanted, &config, &service));
        let simple_kbs = simple_kbs.transpose()?;
        let own = simple_kbs.as_ref().and_then(|prepared| prepared.tls());
        listeners::watch(metrics.as_ref(), &config, &service, [tls.as_ref(), own]);
        let bound = listeners::Bound::new(&config)?;
        let address = bound.address()?;
        let notify = Notify::from_environment();
        let named = [("tls", tls.as_ref())].into_iter();
        let named = named.chain([(
            "simple_kbs.tls",
            simple_kbs.as_ref().and_then(|prepared| prepared.tls()),
        )]);
        let listeners: Vec<_> = named
            .filter_map(|(name, tls)| tls.cloned().map(|tls| Listener { name, tls }))
            .collect();
        let scheme = if config.tls.is_some() { "https" } else { "http" };

        // Before the first checkpoint, which they are told of.
        let webhooks = webhook::configured(&service, &config)?;
        let mut checkpoints = Checkpoints::begin(service.clone(), &config, self.accept_rollback)?;
        let (stop, stopped) = channel::<()>();
        let webhooks = Webhooks::start(&service, webhooks)?;
        let timer = checkpoints.timer()?;
        let tidy = tidier(service.clone(), kept(&config), stopped)?;
        let served = format!("serving on {scheme}://{address}");
        let reloads = Reloads::start(listeners, notify.clone(), served.clone())?;
        let watchdog = notify.watchdog(service.clone())?;
        let state = http::State {
            service: service.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            observer: match &metrics {
                Some(metrics) => metrics.http(),
                None => Arc::new(http::NoObserver),
            },
        };
        let ended = actix_web::rt::System::new().block_on(async {
            let drain = Duration::from_secs(config.shutdown_seconds.into());
            // Before anybody is told that it serves: a signal that came first would end it unswept.
            let signals = Signals::listen(drain + FINISH)?;
            let (bound, _metrics) = bound.start(scheme, metrics.as_ref())?;
            let server = http::serve(bound, tls.as_ref(), drain, state)?;
            let simple_kbs = simple_kbs.map(|prepared| prepared.start(&service, metrics.as_deref()));
            let mut simple_kbs = simple_kbs.transpose()?;
            let (handle, telling) = (server.handle(), notify.clone());
            let end_simple_kbs = simple_kbs.as_mut().map(grpc::Server::ending);
            signals.heed(Heed {
                reload: Box::new(reloads.now()),
                stop: Box::new(move || {
                    log::info!("stopping");
                    drop(handle.stop(true));
                    if let Some(end) = end_simple_kbs {
                        end(drain);
                    }
                    telling.stopping("requests under way are waited for");
                }),
                bound: drain + FINISH,
            });
            output::line(&format!("keyward is serving on {scheme}://{address}"))?;
            notify.ready(&served);
            let stopped = server.await.context("the server stopped");
            if let Some(simple_kbs) = simple_kbs {
                simple_kbs.stop();
            }
            stopped
        });
        drop(stop);
        let _ = tidy.join();
        let tidied = service.tidy_for_good();
        let tidied = tidied.and_then(|()| service.forget(kept(&config)));
        drop(timer);
        // Whatever else went wrong: what is in the log by now is signed.
        let signed = checkpoints.end();
        drop(webhooks);
        drop(watchdog);
        ended?;
        tidied?;
        signed?;
        Ok(Ended::Done)
    }
}

/// The configuration that is named, or else the one in the data folder, with what the environment says.
pub(super) fn configuration(folder: &Path, named: Option<&Path>) -> anyhow::Result<Config> {
    if !folder.is_dir() {
        let folder = folder.display();
        bail!("there is no data folder {folder}: run `keyward init --data-dir {folder} --owner NAME` first");
    }
    let default = folder.join(database::CONFIG);
    let file = named
        .map(Path::to_owned)
        .or_else(|| default.exists().then_some(default));
    Ok(Config::load(file.as_deref(), std::env::vars())?)
}

/// What is kept, and for how long.
fn kept(config: &Config) -> Kept {
    let days = |days: u32| (days > 0).then_some(days);
    Kept {
        records: days(config.audit.retention_days),
        decisions: days(config.decisions.retention_days),
    }
}

/// Calls [`Service::tidy`] and [`Service::forget`] every few seconds until the channel closes.
fn tidier(
    service: Arc<Service>,
    kept: Kept,
    stopped: std::sync::mpsc::Receiver<()>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name("tidy".to_owned())
        .spawn(move || {
            while stopped.recv_timeout(TIDY) == Err(RecvTimeoutError::Timeout) {
                if let Err(error) = service.tidy().and_then(|()| service.forget(kept)) {
                    log::error!("tidying: {error}");
                }
            }
        })
}

/// The use cases on a data folder, as the configuration says; measured where somebody asks for that.
pub(super) fn service(folder: &Path, config: &Config, metrics: Option<&Metrics>) -> anyhow::Result<Service> {
    let store = Arc::new(database::open_configured(folder, config)?);
    if let Some(taken) = store.restored_copy()? {
        log::warn!(
            "this data folder was restored from a backup of {taken}, and checkpoints outside (audit.checkpoint_file) tell only of what they were written for: if secrets may have been released since, start once with --accept-rollback"
        );
    }
    for setting in store.unsafe_settings()? {
        log::warn!("the database has {setting}: what is answered may be lost with its machine's power");
    }
    let sealer = keys::sealer(&store, folder, keys::configured(config, None).as_ref())?;
    let Some(log_key) = log_key::load(&store, &sealer)? else {
        bail!(
            "this data folder is older than the audit log: run `keyward audit init --data-dir {}` first, which makes the key that signs it",
            folder.display()
        );
    };
    let (roots, root_owners) = roots(&config.danger_extra_roots)?;
    let ceks: Arc<dyn CekSource> = if config.kds.url.is_empty() {
        Arc::new(NoService)
    } else {
        let seconds = |n: u32| Duration::from_secs(n.into());
        let remote = HttpService::new(&config.kds.url, seconds(config.kds.timeout_seconds));
        let bound = |n: u32| usize::try_from(n).unwrap_or(usize::MAX).min(4096);
        let remote: Box<dyn kds::Service> = Box::new(remote);
        let queue = Arc::new(Queue::start(
            match metrics {
                Some(metrics) => metrics.around_kds(remote),
                None => remote,
            },
            Bounds {
                wait: seconds(config.kds.wait_seconds),
                total: bound(config.kds.queue),
                per_address: bound(config.kds.queue_per_address),
                chips_per_address: config.kds.chips_per_address,
            },
        )?);
        if let Some(metrics) = metrics {
            metrics.watch_queue(&queue);
        }
        queue
    };
    let workers = match config.policy.workers {
        0 => Workers::usual_count(),
        count => usize::try_from(count).unwrap_or(usize::MAX),
    };
    let limits = Limits {
        time: Duration::from_millis(config.policy.time_limit_ms.into()),
        ..Limits::default()
    };
    let launcher = Launcher::this_program(config.policy.worker_memory_mib);
    let clients = config.tls.as_ref().map_or(&[][..], |tls| &tls.clients);
    let identities = Identities::start(&config.identity_providers, clients, SystemClock.now())?;
    let workers = Arc::new(Workers::new(launcher, workers, limits));
    let (mut store, mut evaluator): (Arc<dyn Store>, Arc<dyn Evaluator>) = (store, workers.clone());
    if let Some(metrics) = metrics {
        metrics.watch_workers(&workers);
        (store, evaluator) = (metrics.around_store(store), metrics.around_evaluator(evaluator));
    }
    let parts = Parts {
        store,
        evaluator,
        sealer,
        roots,
        ceks,
        identities,
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
    };
    let mut service = Service::new(parts, settings(config, root_owners))?.signing_log(log_key);
    if let Some(metrics) = metrics {
        service = service.metered(metrics.meter());
    }
    if let Some(root) = service.ownerless_roots()?.first() {
        bail!(
            "the extra root {root} names no owners, and the data folder has several: say for whom it counts with `owners: [NAME, …]` in danger_extra_roots"
        );
    }
    Ok(service)
}

fn settings(config: &Config, root_owners: Vec<(String, Vec<String>)>) -> Settings {
    Settings {
        launch_lifetime: config.launch.lifetime(),
        launch_tries: config.launch.max_tries,
        bounds: config.launch.bounds(),
        failed_searches_per_minute: config.launch.failed_searches_per_minute,
        hold_retry: Duration::from_secs(config.launch.hold_retry_seconds.into()),
        cek_miss: Duration::from_secs(config.kds.miss_seconds.into()),
        kept_versions: usize::try_from(config.secrets.kept_versions).unwrap_or(usize::MAX),
        cached_bundles: usize::try_from(config.policy.cached_bundles).unwrap_or(usize::MAX),
        cached_chains: usize::try_from(config.launch.cached_chains).unwrap_or(usize::MAX),
        root_owners,
    }
}

type RootOwners = Vec<(String, Vec<String>)>;

fn roots(extra: &[ExtraRoot]) -> anyhow::Result<(TrustedRoots, RootOwners)> {
    let mut roots = TrustedRoots::amd();
    let mut owners = Vec::new();
    for root in extra {
        let what = || format!("danger_extra_roots: {} ({})", root.name, root.file.display());
        let bytes = std::fs::read(&root.file).with_context(what)?;
        // An ARK alone, or ASK‖ARK as chains carry them, so that chains under it may leave both out.
        let pair = [CaCertificate::SIZE_2048, CaCertificate::SIZE_4096]
            .into_iter()
            .find(|n| bytes.len() == 2 * n);
        roots = match pair.and_then(|n| bytes.split_at_checked(n)) {
            Some((ask, ark)) => {
                let ark = CaCertificate::parse(ark).with_context(what)?;
                let ask = CaCertificate::parse(ask).with_context(what)?;
                roots.with_extra_pair(&root.name, ark, ask).with_context(what)?
            }
            None => {
                let ark = CaCertificate::parse(&bytes).with_context(what)?;
                roots.with_extra(&root.name, ark).with_context(what)?
            }
        };
        log::warn!(
            "trusting the extra root {} ({}): platforms under it prove nothing about hardware",
            root.name,
            root.file.display()
        );
        if !root.owners.is_empty() {
            owners.push((root.name.clone(), root.owners.clone()));
        }
    }
    Ok((roots, owners))
}
