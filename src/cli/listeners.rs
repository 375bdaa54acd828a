//! The listeners that `serve` binds, and what is measured of them.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::{anyhow, bail};

use super::output;
use crate::config::Config;
use crate::http::{Listeners, LiveTls, MetricsServer};
use crate::metrics::{CertificateFile, Metrics, Shown, ShownCertificate};
use crate::release::Service;

/// Listeners that are bound and do not serve yet.
pub(super) struct Bound {
    pub(super) apis: Listeners,
    metrics: Option<TcpListener>,
}

impl Bound {
    /// Binds those of the configuration.
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let own = |key: &'static str, address: Option<SocketAddr>| {
            address.map(|address| bind(key, address)).transpose()
        };
        Ok(Self {
            apis: Listeners {
                main: bind("", config.listen)?,
                hosts: own("hosts.listen", config.hosts.listen)?,
                owners: own("owners.listen", config.owners.listen)?,
            },
            metrics: own("metrics.listen", config.metrics.listen)?,
        })
    }

    /// Where the main one listens.
    pub(super) fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.apis.main.local_addr()?)
    }

    /// Serves metrics, and says where that and the APIs with listeners of their own are.
    pub(super) fn start(
        self,
        scheme: &str,
        metrics: Option<&Arc<Metrics>>,
    ) -> anyhow::Result<(Listeners, Option<MetricsServer>)> {
        for (who, own) in [("hosts", &self.apis.hosts), ("owners", &self.apis.owners)] {
            if let Some(own) = own {
                output::line(&format!("{who} are served on {scheme}://{}", own.local_addr()?))?;
            }
        }
        let served = self.metrics.zip(metrics).map(|(listener, metrics)| {
            let (address, metrics) = (listener.local_addr()?, metrics.clone());
            let server = MetricsServer::start(listener, Arc::new(move || metrics.text()))?;
            output::line(&format!("metrics are served on http://{address}/metrics"))?;
            Ok::<_, anyhow::Error>(server)
        });
        Ok((self.apis, served.transpose()?))
    }
}

/// Refuses what can't or should not be listened on, before anything else is done.
pub(super) fn check(config: &Config) -> anyhow::Result<()> {
    config.check_listeners()?;
    for (key, address) in [
        ("", Some(config.listen)),
        ("hosts.listen: ", config.hosts.listen),
        ("owners.listen: ", config.owners.listen),
    ] {
        if let Some(address) = address
            && config.tls.is_none()
            && !address.ip().is_loopback()
            && !config.danger_plaintext_http
        {
            bail!(
                "{key}{address} is not a loopback address and there is no TLS: configure `tls`, or say `danger_plaintext_http: true` if a proxy in front provides it"
            );
        }
    }
    match config.metrics.listen {
        Some(address) if !address.ip().is_loopback() && !config.metrics.danger_plaintext_http => bail!(
            "metrics.listen: {address} is not a loopback address, and metrics are served without TLS and to whoever asks: say `danger_plaintext_http: true` under `metrics` if only those reach it who may read them"
        ),
        _ => Ok(()),
    }
}

/// Metrics, where they are asked for.
pub(super) fn metrics(config: &Config) -> Option<Arc<Metrics>> {
    config.metrics.listen.map(|_| Arc::new(Metrics::new()))
}

/// Lets metrics look at what was made, and at what its listeners show.
pub(super) fn watch(
    metrics: Option<&Arc<Metrics>>,
    config: &Config,
    service: &Arc<Service>,
    [main, simple_kbs]: [Option<&Arc<LiveTls>>; 2],
) {
    let Some(metrics) = metrics else { return };
    metrics.watch_service(service);
    let live = |name, tls: Option<&Arc<LiveTls>>| {
        let tls = tls?.clone();
        let path = tls.certificate().to_owned();
        let shown: Shown = Arc::new(move || ShownCertificate {
            ends: tls.first_end(),
            refused: tls.is_refused(),
        });
        let shown = Some(shown);
        Some(CertificateFile { name, path, shown })
    };
    let others = config.tls.iter().flat_map(|tls| {
        [
            ("client-ca", tls.client_ca.as_ref()),
            ("client-crl", tls.client_crl.as_ref()),
        ]
    });
    let others = others.filter_map(|(name, path)| {
        let (path, shown) = (path?.clone(), None);
        Some(CertificateFile { name, path, shown })
    });
    let own = [live("server", main), live("simple-kbs", simple_kbs)];
    metrics.watch_certificates(own.into_iter().flatten().chain(others).collect());
}

/// Binds one; those beside the main one are named by their key.
fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| {
        let (before, choose) = match key {
            "" => (String::new(), "choose another with --listen HOST:PORT".to_owned()),
            key => (format!("{key}: "), format!("choose another in `{key}`")),
        };
        match error.kind() {
            ErrorKind::AddrInUse => {
                anyhow!("{before}{address} is taken: stop the server that runs there, or {choose}")
            }
            _ => anyhow!("{before}can't listen on {address}: {error}; {choose}"),
        }
    })
}
