//! The two calls of the host API, made until they are answered for good.

use std::time::{Duration, SystemTime};

use actix_web::http::header::HttpDate;
use anyhow::{Context as _, anyhow, bail};
use openssl::sha::sha256;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Denied, HostConnection, say};
use crate::cli::client::Client;
use crate::domain::bytes::Flex;
use crate::domain::{Base64, Base64Bytes};
use crate::host::{Capabilities, GuestInfo, Patience};
use crate::http::{LaunchReply, ValidateReply};
use crate::sev::{Scheme, SystemRandom};

/// The longest answer that is read.
const LONGEST: u64 = 1 << 20;
/// The longest that one answer is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// And the shortest.
const LEAST_WITHIN: Duration = Duration::from_secs(15);
/// How long a held release waits where the server does not say it.
const HOLD: Duration = Duration::from_secs(30);

/// How time passes between two tries. An error ends the call.
pub(super) type Wait<'a> = &'a mut dyn FnMut(Duration) -> anyhow::Result<()>;

/// A server that is asked by a host.
pub(super) struct Server {
    client: Client,
    url: String,
    timeout: Duration,
}

/// What a launch is asked for.
pub(super) struct LaunchCall<'a> {
    pub(super) workload: Uuid,
    pub(super) platform: &'a Capabilities,
    pub(super) scheme: Option<Scheme>,
    pub(super) policy: Option<u32>,
}

/// A problem document, as far as a host acts on it.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Problem {
    r#type: String,
    title: String,
    detail: String,
    decision: Option<Uuid>,
    hold: Option<Uuid>,
}

/// What becomes of an answer that is none yet.
enum Verdict {
    /// To be asked again, not before what the server says; and why.
    Again(Option<Duration>, String),
    /// Never: an error for whoever asked.
    Final(anyhow::Error),
}

impl Server {
    pub(super) fn new(connection: &HostConnection) -> anyhow::Result<Self> {
        Ok(Self {
            client: connection.client()?,
            url: connection.server.trim_end_matches('/').to_owned(),
            timeout: connection.timeout,
        })
    }

    /// `POST /vm/{uuid}/launch`. A try whose answer is lost leaves a launch behind that expires.
    pub(super) fn launch(&self, call: &LaunchCall<'_>, wait: Wait<'_>) -> anyhow::Result<LaunchReply> {
        let mut body = json!({
            "pdh": call.platform.pdh,
            "cert-chain": call.platform.cert_chain,
        });
        if let Some(map) = body.as_object_mut() {
            if let Some(Flex(id)) = call.platform.cpu_id {
                map.insert("cpu-id".to_owned(), json!(Base64(id)));
            }
            if let Some(scheme) = call.scheme {
                map.insert("scheme".to_owned(), json!(scheme));
            }
            if let Some(policy) = call.policy {
                map.insert("policy".to_owned(), policy.into());
            }
        }
        self.ask(
            &format!("/vm/{}/launch", call.workload),
            None,
            &body,
            "launch",
            wait,
        )
    }

    /// `POST /vm/{uuid}/validate`. The key is made of what is asked, so that whoever asks the same again, in this
    /// process or another, gets the same answer and no second release is counted.
    pub(super) fn validate(&self, id: Uuid, body: &Value, wait: Wait<'_>) -> anyhow::Result<ValidateReply> {
        let digest = hex::encode(sha256(body.to_string().as_bytes()));
        let key = format!("keyward-host-{id}-{digest}");
        self.ask(&format!("/vm/{id}/validate"), Some(&key), body, "release", wait)
    }

    fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        key: Option<&str>,
        body: &Value,
        what: &str,
        wait: Wait<'_>,
    ) -> anyhow::Result<T> {
        let bytes = serde_json::to_vec(body)?;
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        let mut patience = Patience::new(self.timeout, &SystemRandom);
        let mut said = String::new();
        loop {
            // A try has some time, however little is left.
            let within = patience.left().clamp(LEAST_WITHIN, ANSWER_WITHIN);
            let verdict = match self.client.send(path, &headers, &bytes, within) {
                Err(error) if is_passing(&error) => {
                    Verdict::Again(None, format!("{} can't be reached: {error}", self.url))
                }
                Err(error) => bail!("{} can't be asked: {error}", self.url),
                Ok(mut answer) => {
                    let status = answer.status().as_u16();
                    let told = answer
                        .headers()
                        .get("retry-after")
                        .and_then(|value| after(value.to_str().ok()?));
                    match answer.body_mut().with_config().limit(LONGEST).read_to_vec() {
                        Ok(answer) if status == 200 => {
                            return serde_json::from_slice(&answer).with_context(|| {
                                format!(
                                    "{} answered what is not Keyward's; is it another version?",
                                    self.url
                                )
                            });
                        }
                        Ok(answer) => self.verdict(status, told, &answer, what),
                        Err(error) if is_passing(&error) => {
                            Verdict::Again(None, format!("{}'s answer was lost: {error}", self.url))
                        }
                        Err(error) => bail!("{}'s answer: {error}", self.url),
                    }
                }
            };
            let (told, why) = match verdict {
                Verdict::Again(told, why) => (told, why),
                Verdict::Final(error) => return Err(error),
            };
            let Some(pause) = patience.next(told) else {
                let limit = self.timeout.as_secs();
                bail!("{why}; gave up, as --timeout is {limit} s");
            };
            if why != said {
                say(&format!(
                    "{why}; asking again in {:.0} s",
                    pause.as_secs_f64().ceil()
                ));
                said = why;
            }
            wait(pause)?;
        }
    }

    fn verdict(&self, status: u16, told: Option<Duration>, answer: &[u8], what: &str) -> Verdict {
        let problem: Problem = serde_json::from_slice(answer).unwrap_or_default();
        let name = problem.r#type.strip_prefix("/problems/").unwrap_or_default();
        let said = match (problem.title.as_str(), problem.detail.as_str()) {
            ("", _) => format!("{} answered with status {status}", self.url),
            (title, "") => title.to_owned(),
            (title, detail) => format!("{title}: {detail}"),
        };
        Verdict::Final(match (status, name) {
            (403, "confirmation-required") => {
                let hold = problem.hold.map(|id| id.to_string()).unwrap_or_default();
                let why = format!("the release is held, hold {hold}: its owner must confirm it");
                return Verdict::Again(Some(told.unwrap_or(HOLD)), why);
            }
            (429 | 502 | 503 | 504, _) => return Verdict::Again(told, said),
            (403, "denied") => {
                let decision = problem.decision.map(|id| id.to_string()).unwrap_or_default();
                let why = format!("the {what} was denied, decision {decision}: its owner sees why");
                Denied(why).into()
            }
            (422, _) => Denied(said).into(),
            (401, _) => anyhow!(
                "{} does not know this host: name the file of a valid token with --token-file, or a certificate with --cert-file",
                self.url
            ),
            _ => anyhow!("{said}"),
        })
    }
}

/// `Retry-After`: seconds, or a date; one that has passed is now.
fn after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = SystemTime::from(value.parse::<HttpDate>().ok()?);
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Whether another try may do better: the network's faults, not those of names, addresses and certificates.
fn is_passing(error: &ureq::Error) -> bool {
    matches!(
        error,
        ureq::Error::Io(_)
            | ureq::Error::Timeout(_)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::Protocol(_)
            | ureq::Error::BodyStalled
    )
}

/// What is sent to be validated: what the PSP says, and what the host claims.
pub(super) fn request(
    info: &GuestInfo,
    measurement: [u8; 48],
    claims: &super::validate::Claims,
) -> anyhow::Result<Value> {
    let mut body = json!({
        "api-major": info.api_major,
        "api-minor": info.api_minor,
        "build-id": info.build_id,
        "policy": info.policy,
        "measurement": Base64(measurement),
    });
    if let Some(map) = body.as_object_mut() {
        claims.add_to(map)?;
    }
    Ok(body)
}

/// A whole packet's parts, as QEMU takes them.
pub(super) fn packet(reply: &ValidateReply) -> (&Base64Bytes, &Base64Bytes) {
    (&reply.secret_header, &reply.secret_payload)
}
