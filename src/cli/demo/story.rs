//! What the demo is played with: a server that knows the example, a platform, and guests on it.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use ureq::Agent;
use uuid::{Uuid, uuid};
use zeroize::Zeroizing;

use super::{auditor, say};
use crate::cli::checkpoints::Checkpoints;
use crate::cli::client::Client;
use crate::cli::credential::Credential;
use crate::cli::{decision_text, init, output, psp, serve};
use crate::config::{AuditConfig, Config, ExtraRoot, KdsConfig};
use crate::domain::Base64;
use crate::domain::decision::Decision;
use crate::domain::object::Applied;
use crate::http::{self, ApplyBody, LaunchReply, ValidateReply};
use crate::manifest;
use crate::psp::{Ca, Guest, Platform, PlatformOptions};
use crate::sev::launch_digest::{CpuModel, Firmware, KernelHashes, VmsaVariant, save_areas};
use crate::sev::secret_table;

/// The workload's UUID in the example's manifest.
pub(super) const WORKLOAD: Uuid = uuid!("5a9c3c4e-6f0e-4d5b-9a53-0d0f6d1c2b7e");

/// The example's files, as they are in the repository.
const EXAMPLE: [(&str, &[u8]); 8] = [
    (
        "manifests.yaml",
        include_bytes!("../../../examples/first-release/manifests.yaml"),
    ),
    (
        "policy/.manifest",
        include_bytes!("../../../examples/first-release/policy/.manifest"),
    ),
    (
        "policy/reference/data.yaml",
        include_bytes!("../../../examples/first-release/policy/reference/data.yaml"),
    ),
    (
        "policy/release/database.rego",
        include_bytes!("../../../examples/first-release/policy/release/database.rego"),
    ),
    (
        "policy/release/database_test.rego",
        include_bytes!("../../../examples/first-release/policy/release/database_test.rego"),
    ),
    (
        "guest/firmware.fd",
        include_bytes!("../../../examples/first-release/guest/firmware.fd"),
    ),
    (
        "guest/kernel",
        include_bytes!("../../../examples/first-release/guest/kernel"),
    ),
    (
        "guest/initrd",
        include_bytes!("../../../examples/first-release/guest/initrd"),
    ),
];
/// A server with what the owner registered, and a platform to launch guests on.
pub(super) struct Story {
    base: String,
    agent: Agent,
    pub(super) client: Client,
    platform: Platform,
    handle: actix_web::dev::ServerHandle,
    checkpoints: Checkpoints,
    thread: std::thread::JoinHandle<()>,
}

/// A guest that waits for its secrets.
pub(super) struct Measured {
    id: Uuid,
    guest: Guest,
    request: Value,
}

/// What a host was answered.
#[derive(Debug)]
pub(super) enum Answer {
    Released {
        decision: Uuid,
        entries: Vec<(Uuid, usize)>,
    },
    Refused {
        status: u16,
        title: String,
        decision: Option<Uuid>,
        hold: Option<Uuid>,
    },
}

impl Story {
    pub(super) fn begin(folder: &Path) -> anyhow::Result<Self> {
        for (name, bytes) in EXAMPLE {
            let path = folder.join("example").join(name);
            fs::create_dir_all(path.parent().unwrap_or(folder))?;
            fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        }
        let ca = Ca::generate(4096)?;
        let platform = Platform::generate_with_ca(&ca, &PlatformOptions::default())?;
        let ark = folder.join("demo-ark.cert");
        fs::write(&ark, platform.ark())?;
        say("psp        made a platform with a root of its own; this server is told to trust it,")?;
        say("           as a platform that is not AMD's hardware would be refused")?;

        let data = folder.join("data");
        let (token, ..) = init::create(&data, None, &"demo".parse()?, None, None, None, None)?;
        let config = Config {
            danger_extra_roots: vec![ExtraRoot {
                name: "demo".to_owned(),
                file: ark,
                owners: Vec::new(),
            }],
            kds: KdsConfig {
                url: String::new(),
                ..KdsConfig::default()
            },
            audit: AuditConfig {
                checkpoint_file: Some(folder.join(auditor::SEEN)),
                ..AuditConfig::default()
            },
            ..Config::default()
        };
        let service = Arc::new(serve::service(&data, &config, None)?);
        let checkpoints = Checkpoints::begin(service.clone(), &config, false)?;
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let base = format!("http://{}", listener.local_addr()?);
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("demo-server".to_owned())
            .spawn(move || {
                actix_web::rt::System::new().block_on(async {
                    match http::serve(listener, None, Duration::from_secs(10), http::State::new(service)) {
                        Ok(server) => {
                            let _ = sender.send(Ok(server.handle()));
                            let _ = server.await;
                        }
                        Err(error) => {
                            let _ = sender.send(Err(error));
                        }
                    }
                });
            })?;
        let handle = receiver.recv().context("the server did not start")??;

        let token = Credential::Token(Zeroizing::new(token.expose().to_owned()));
        let client = Client::new(&base, token, None)?;
        let objects = manifest::read(&folder.join("example/manifests.yaml"))?.objects;
        let applied: Applied = client.post("/v1/apply", &ApplyBody::new(objects))?;
        for change in applied.changes {
            let name = change
                .name
                .get(..12)
                .filter(|_| change.name.len() == 64)
                .unwrap_or(&change.name)
                .to_owned();
            say(&format!(
                "owner      {} {} {name}",
                change.action.as_str(),
                change.kind
            ))?;
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .new_agent();
        Ok(Self {
            base,
            agent,
            client,
            platform,
            handle,
            checkpoints,
            thread,
        })
    }

    /// Asks for a launch and starts a guest with the session.
    pub(super) fn start(&self) -> anyhow::Result<(Uuid, Guest)> {
        let request = psp::launch_request(&self.platform);
        let (status, body) = self.post(&format!("/vm/{WORKLOAD}/launch"), &request)?;
        if status != 200 {
            bail!("the launch was refused: {body}");
        }
        let reply: LaunchReply = serde_json::from_value(body)?;
        match self
            .platform
            .launch_start(reply.policy, &reply.owner_cert.0, &reply.session.0)
        {
            Ok(guest) => Ok((reply.id, guest)),
            Err(status) => bail!("LAUNCH_START: {status}"),
        }
    }

    /// Loads the example's image with this command line, measures it, and asks for its secrets.
    pub(super) fn validate(
        &self,
        started: (Uuid, Guest),
        cmdline: &[u8],
        hint: Option<[u8; 32]>,
    ) -> anyhow::Result<Answer> {
        self.ask(&mut self.measure(started, cmdline, hint)?)
    }

    /// Loads the example's image with this command line and measures it.
    pub(super) fn measure(
        &self,
        started: (Uuid, Guest),
        cmdline: &[u8],
        hint: Option<[u8; 32]>,
    ) -> anyhow::Result<Measured> {
        let (id, mut guest) = started;
        let status = |status: crate::psp::Status| anyhow::anyhow!("the PSP: {status}");
        for part in parts(cmdline)? {
            guest.launch_update_data(&part).map_err(status)?;
        }
        let measurement = guest.launch_measure().map_err(status)?;
        let build = guest.build();
        let mut request = json!({
            "api-major": build.api_major,
            "api-minor": build.api_minor,
            "build-id": build.build_id,
            "policy": guest.policy().bits(),
            "measurement": Base64(measurement),
        });
        if let (Some(hint), Some(map)) = (hint, request.as_object_mut()) {
            map.insert("launch-digest".to_owned(), json!(Base64(hint)));
        }
        Ok(Measured { id, guest, request })
    }

    /// Asks for the secrets of a measured guest; one that was held may ask again.
    pub(super) fn ask(&self, measured: &mut Measured) -> anyhow::Result<Answer> {
        let Measured { id, guest, request } = measured;
        let (code, body) = self.post(&format!("/vm/{id}/validate"), request)?;
        if code != 200 {
            let id = |name: &str| {
                body.get(name)
                    .and_then(Value::as_str)
                    .and_then(|text| text.parse().ok())
            };
            let title = body
                .get("title")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            return Ok(Answer::Refused {
                status: code,
                title,
                decision: id("decision"),
                hold: id("hold"),
            });
        }
        let reply: ValidateReply = serde_json::from_value(body)?;
        let payload = &reply.secret_payload.0;
        let table = guest
            .launch_secret(&reply.secret_header.0, payload, payload.len())
            .map_err(|status| anyhow::anyhow!("the PSP: {status}"))?;
        let entries = secret_table::parse(&table)?
            .iter()
            .map(|entry| (entry.guid, entry.data.len()))
            .collect();
        Ok(Answer::Released {
            decision: reply.decision,
            entries,
        })
    }

    /// The launch digest of the example's image with this command line.
    pub(super) fn digest(&self, cmdline: &[u8]) -> anyhow::Result<[u8; 32]> {
        Ok(openssl::sha::sha256(&parts(cmdline)?.concat()))
    }

    pub(super) fn show(&self, id: Uuid) -> anyhow::Result<()> {
        let recorded: Decision = self.client.get(&format!("/v1/decisions/{id}"))?;
        output::line("")?;
        for line in decision_text::text(&recorded).lines() {
            output::line(format!("      {line}").trim_end())?;
        }
        Ok(())
    }

    fn post(&self, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        let url = format!("{}{path}", self.base);
        let mut response = self
            .agent
            .post(&url)
            .content_type("application/json")
            .send(body.to_string())?;
        let text = response.body_mut().read_to_string()?;
        Ok((
            response.status().as_u16(),
            serde_json::from_str(&text).context("the server's answer")?,
        ))
    }

    pub(super) fn stop(self) -> anyhow::Result<()> {
        let stop = self.handle.stop(false);
        actix_web::rt::System::new().block_on(stop);
        self.thread
            .join()
            .map_err(|_| anyhow::anyhow!("the server's thread failed"))?;
        self.checkpoints.end()
    }
}

/// What QEMU loads into the example's guest, in order: firmware, kernel hashes, two vCPUs.
fn parts(cmdline: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    let file = |name: &str| {
        let files: BTreeMap<_, _> = EXAMPLE.into_iter().collect();
        files
            .get(name)
            .copied()
            .with_context(|| format!("the example has no {name}"))
    };
    let firmware = Firmware::parse(file("guest/firmware.fd")?)?;
    let text = std::str::from_utf8(cmdline)?;
    let kernel = KernelHashes::from_files(file("guest/kernel")?, Some(file("guest/initrd")?), Some(text));
    let areas = save_areas(&firmware, 2, CpuModel::Milan.signature(), VmsaVariant::Init2)?;
    let mut parts = vec![firmware.bytes().to_vec(), kernel.to_table().to_vec()];
    parts.extend(areas.into_iter().map(|area| area.to_vec()));
    Ok(parts)
}
