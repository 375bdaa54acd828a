//! What is asked over a socket: the server's port, and, if it is wanted, what the server asks.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::Value;
use ureq::tls::RootCerts;

use super::report::Report;
use crate::cli::health;
use crate::config::Config;
use crate::outward;

/// How long somebody may take to answer.
const WAIT: Duration = Duration::from_secs(5);

pub(super) fn check(report: &mut Report, config: &Config, server: Option<&str>, network: bool) {
    match server {
        Some(url) => match ready(url.trim_end_matches('/')) {
            Ok(detail) => report.ok("server", detail),
            Err(why) => report.fail("server", why, "look at its log"),
        },
        None => port(report, config),
    }
    if !network {
        report.skip("network", "nobody else is asked without --network");
        return;
    }
    match config.kds.url.as_str() {
        "" => report.skip("kds", "kds.url is empty: it is never asked"),
        url => outside(report, "kds", url),
    }
    for provider in &config.identity_providers {
        if let Some(url) = &provider.jwks.url {
            outside(report, "identity provider", url);
        }
    }
}

/// Any answer will do: what is asked for is the server's business.
fn outside(report: &mut Report, check: &'static str, url: &str) {
    let agent = outward::agent(url, WAIT, RootCerts::PlatformVerifier);
    match agent.get(url).call() {
        Ok(_) => report.ok(check, format!("{url} answers")),
        Err(error) => report.fail(
            check,
            format!("{url}: {error}"),
            "open the way out to it, or correct the URL",
        ),
    }
}

fn port(report: &mut Report, config: &Config) {
    let listen = config.listen;
    if listen.port() == 0 {
        report.skip("port", "the configuration takes any free port");
        return;
    }
    if !is_here(listen.ip()) {
        report.fail(
            "port",
            format!("{} is no address of this machine", listen.ip()),
            "correct `listen`",
        );
        return;
    }
    let here = health::here(listen);
    if TcpStream::connect_timeout(&here, WAIT).is_err() {
        match listen.port() < 1024 && !rustix::process::geteuid().is_root() {
            true => report.warn(
                "port",
                format!("{listen} is free, and below 1024"),
                "the server's user may need a right to listen there (CAP_NET_BIND_SERVICE): take a higher one",
            ),
            false => report.ok("port", format!("{listen} is free: no server runs there")),
        }
        return;
    }
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    match ready(&format!("{scheme}://{here}")) {
        Ok(detail) => report.ok("port", detail),
        Err(why) => report.fail(
            "port",
            why,
            "look at the log of the server that runs there; if it is another program, choose another port with `listen`",
        ),
    }
}

fn is_here(ip: IpAddr) -> bool {
    // A datagram socket takes no connection that a server could miss.
    ip.is_unspecified() || UdpSocket::bind(SocketAddr::new(ip, 0)).is_ok()
}

/// What a server says of being ready, or why it is not.
fn ready(base: &str) -> Result<String, String> {
    let url = format!("{base}/readyz");
    let mut answer = health::agent()
        .get(&url)
        .call()
        .map_err(|error| format!("{url}: {error}"))?;
    let status = answer.status().as_u16();
    let body = answer.body_mut().read_to_string().unwrap_or_default();
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    match (status, text("status")) {
        (200, Some(said)) if said == "ready" => Ok(format!("{url}: ready")),
        (_, _) if text("detail").is_some() => Err(format!(
            "{url}: not ready: {}",
            text("detail").unwrap_or_default()
        )),
        _ => Err(format!("{url}: status {status}, which is no answer of Keyward")),
    }
}
