//! The listeners' certificates: do they fit, for how long, and for which names?

use std::time::Duration;

use super::report::{Report, chain};
use crate::config::Config;
use crate::domain::{Clock as _, SystemClock, Time};
use crate::http::{TlsFacts, TlsFiles};

/// A certificate that ends within this time is warned of.
const SOON: Duration = Duration::from_secs(30 * 86_400);

pub(super) fn check(report: &mut Report, config: &Config) {
    if let Some(tls) = &config.tls {
        one(report, "certificate", &TlsFiles::from(tls));
    }
    if let Some(tls) = config.simple_kbs.as_ref().and_then(|kbs| kbs.tls.as_ref()) {
        one(report, "certificate (kbs)", &TlsFiles::from(tls));
    }
}

fn one(report: &mut Report, check: &'static str, files: &TlsFiles) {
    let facts = match files.facts() {
        Ok(facts) => facts,
        Err(error) => {
            report.fail(
                check,
                chain(&error.into()),
                "the server does not start with it; one that runs goes on with what it has",
            );
            return;
        }
    };
    let now = SystemClock.now();
    let TlsFacts {
        validity: (since, until),
        names,
        authorities,
        lists_until,
    } = &facts;
    let for_whom = match names.is_empty() {
        true => "no name".to_owned(),
        false => names.join(", "),
    };
    let detail = format!("for {for_whom}, until {until}");
    let renew = "put a new one in its place: the server reads it by itself";
    if *until <= now {
        report.fail(check, format!("expired: {detail}"), renew);
    } else if now < *since {
        report.fail(
            check,
            format!("not valid before {since}"),
            "look at the clock, or wait",
        );
    } else if names.is_empty() {
        report.fail(
            check,
            format!("names nobody: {detail}"),
            "clients look at subjectAltName alone: have it made with the server's DNS names or addresses",
        );
    } else if *until <= now.after(SOON) {
        report.warn(check, format!("ends soon: {detail}"), renew);
    } else {
        report.ok(check, detail);
    }
    if authorities.is_empty() {
        return;
    }
    authorities_of(report, authorities, *lists_until, now);
}

fn authorities_of(report: &mut Report, authorities: &[(String, Time)], lists: Option<Time>, now: Time) {
    let check = "client authorities";
    let ended: Vec<_> = authorities.iter().filter(|(_, until)| *until <= now).collect();
    let names: Vec<_> = authorities.iter().map(|(name, _)| name.as_str()).collect();
    let detail = names.join("; ");
    if let Some(until) = lists.filter(|until| *until <= now) {
        report.fail(
            check,
            format!("a revocation list ended at {until}, so no client certificate is accepted"),
            "put a current one in its place",
        );
    } else if ended.len() == authorities.len() {
        report.fail(
            check,
            format!("all have expired: {detail}"),
            "name current ones in tls.client_ca",
        );
    } else if let Some((name, until)) = ended.first() {
        report.warn(
            check,
            format!("{name} expired at {until}"),
            "take it out of tls.client_ca",
        );
    } else {
        report.ok(check, detail);
    }
}
