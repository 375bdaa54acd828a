//! The listener of simple-kbs's clients, as `serve` runs it beside its own.

use std::net::TcpListener;
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::output;
use crate::config::{Config, SimpleKbsConfig};
use crate::grpc::{NoObserver, Server};
use crate::http::{LiveTls, TlsFiles};
use crate::metrics::Metrics;
use crate::release::Service;
use crate::release::simple_kbs::Face;

/// A listener that is bound and does not serve yet.
pub(super) struct Prepared<'a> {
    config: &'a SimpleKbsConfig,
    listener: TcpListener,
    tls: Option<Arc<LiveTls>>,
}

impl<'a> Prepared<'a> {
    pub(super) fn new(
        config: &'a SimpleKbsConfig,
        whole: &Config,
        service: &Service,
    ) -> anyhow::Result<Self> {
        let address = config.listen;
        if config.tls.is_none() && !address.ip().is_loopback() && !whole.danger_plaintext_http {
            bail!(
                "simple_kbs: {address} is not a loopback address and there is no TLS: configure `simple_kbs.tls`, or say `danger_plaintext_http: true` if a proxy in front provides it"
            );
        }
        if config.tls.is_none() && !address.ip().is_loopback() {
            log::warn!(
                "simple_kbs: {address} is served without TLS, as danger_plaintext_http says: client ids of connections travel in the clear unless a proxy in front encrypts"
            );
        }
        let owner = &config.owner;
        if !service.store().owners()?.contains(owner) {
            bail!("simple_kbs: there is no owner {owner} in this data folder");
        }
        for name in &config.workloads {
            if service
                .store()
                .workload_heads(owner, std::slice::from_ref(name))?
                .is_empty()
            {
                log::warn!(
                    "simple_kbs: {owner} has no workload {name} yet: nothing of it is served until it has"
                );
            }
        }
        let tls = config.tls.as_ref().map(|tls| LiveTls::read(TlsFiles::from(tls)));
        let tls = tls.transpose().context("simple_kbs")?;
        let listener =
            TcpListener::bind(address).with_context(|| format!("simple_kbs: can't listen on {address}"))?;
        Ok(Self {
            config,
            listener,
            tls,
        })
    }

    /// What its connections are made with; none: plaintext.
    pub(super) fn tls(&self) -> Option<&Arc<LiveTls>> {
        self.tls.as_ref()
    }

    pub(super) fn start(self, service: &Arc<Service>, metrics: Option<&Metrics>) -> anyhow::Result<Server> {
        let config = self.config;
        let (address, owner) = (self.listener.local_addr()?, &config.owner);
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let face = Face {
            owner: owner.clone(),
            workloads: config.workloads.clone(),
            connections: config.connections(),
        };
        let observer = match metrics {
            Some(metrics) => metrics.grpc(),
            None => Arc::new(NoObserver),
        };
        let server =
            Server::start(self.listener, self.tls, service.clone(), face, observer).context("simple_kbs")?;
        output::line(&format!(
            "simple-kbs clients of {owner} are served on {scheme}://{address}"
        ))?;
        Ok(server)
    }
}
