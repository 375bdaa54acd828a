//! `health`: whether the server of a data folder on this machine is alive, for containers that have no other program.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use ureq::Agent;
use ureq::tls::{TlsConfig, TlsProvider};

use super::{Ended, output, serve};

/// How long an answer may take.
const WAIT: Duration = Duration::from_secs(3);

#[derive(Args)]
#[command(
    after_help = "It asks /livez on this machine and the configured port. The certificate is not looked at, as \
                        nothing is sent that could be stolen and nothing that comes back is believed but «alive»."
)]
pub(super) struct Health {
    /// Folder that the server serves
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The server's configuration. Default: keyward.yaml in the data folder, if there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The server's address and port, where `serve --listen` names another than the configuration
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
}

impl Health {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let config = serve::configuration(&self.data_dir, self.config.as_deref())?;
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/livez", here(self.listen.unwrap_or(config.listen)));
        let answer = agent().get(&url).call().with_context(|| url.clone())?;
        let status = answer.status().as_u16();
        if status != 200 {
            bail!("{url}: expected status 200, came {status}");
        }
        output::line("alive")?;
        Ok(Ended::Done)
    }
}

/// Asks a server on this machine, whatever its certificate is.
pub(super) fn agent() -> Agent {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::NativeTls)
        .disable_verification(true)
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(WAIT))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None);
    config.build().new_agent()
}

/// Where a server that listens there is reached from the same machine.
pub(super) fn here(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
