//! What SEV needs of QEMU, in its words.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::qmp::{Qmp, QmpError};
use crate::domain::bytes::Flex;
use crate::domain::{Base64, Base64Bytes};
use crate::sev::Measurement;

/// How often a guest is looked at that is still being measured.
const LOOKED_EACH: Duration = Duration::from_millis(100);

/// Why QEMU could not do what is needed.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// The conversation failed, or QEMU refused a command.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// QEMU is older than the command, or built without SEV.
    #[error(
        "this QEMU ({version}) does not know {command}: it needs QEMU 6.0 or later for x86-64, built with KVM"
    )]
    TooOld {
        /// The command.
        command: String,
        /// QEMU's version.
        version: String,
    },
    /// An answer is not what the command returns.
    #[error("{command}: {why}")]
    Answer {
        /// The command.
        command: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The guest is no SEV guest.
    #[error(
        "the guest is not protected by SEV: start QEMU with -object sev-guest,… and -machine confidential-guest-support=…"
    )]
    NotSev,
    /// The guest is of another technology.
    #[error("the guest is of type {0}, and secrets can be injected into sev and sev-es guests only")]
    OtherType(String),
    /// The guest runs, or ran.
    #[error(
        "the guest is {status}, and only one that has never run gets secrets: start QEMU with -S, and let nobody else resume it"
    )]
    NotPaused {
        /// QEMU's word for it.
        status: String,
    },
    /// The launch is in a state in which no secret can be injected.
    #[error("the guest's launch is in state {state}, and secrets are injected in state launch-secret only")]
    WrongState {
        /// QEMU's word for it.
        state: String,
    },
    /// The guest was started with another policy than the server's session is for.
    #[error(
        "the guest was started with SEV policy {started:#x}, and the launch is for {expected:#x}: pass policy={expected:#x} to sev-guest"
    )]
    Policy {
        /// What QEMU was given.
        started: u32,
        /// What the session is for.
        expected: u32,
    },
    /// Somebody else resumed the guest.
    #[error("somebody resumed the guest while its secrets were waited for; it runs without them")]
    Resumed,
    /// The guest was shut down.
    #[error("the guest was shut down while its secrets were waited for")]
    ShutDown,
}

impl QemuError {
    /// Whether this QEMU is not, or no longer, the one that the launch was for: it runs, or was started with something
    /// else.
    #[must_use]
    pub fn is_of_another(&self) -> bool {
        matches!(
            self,
            Self::NotSev
                | Self::OtherType(_)
                | Self::NotPaused { .. }
                | Self::WrongState { .. }
                | Self::Policy { .. }
                | Self::Resumed
        )
    }

    /// Whether it can't be talked to any more, though it may live: what is said next would not be answered either.
    #[must_use]
    pub fn is_mute(&self) -> bool {
        matches!(self, Self::Qmp(error) if !matches!(error, QmpError::Refused { .. } | QmpError::Gone { .. }))
    }
}

/// `query-sev-capabilities`: what the platform says of itself.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Capabilities {
    /// The platform's Diffie-Hellman certificate.
    pub pdh: Base64<2084>,
    /// PEK‖OCA‖CEK, the CEK unsigned; or any form that the server takes.
    pub cert_chain: Base64Bytes,
    /// The chip's id, for AMD's service; QEMU before 7.1 does not say it.
    #[serde(default, rename = "cpu0-id", alias = "cpu-id")]
    pub cpu_id: Option<Flex<64>>,
    /// Where the encryption bit is in a guest's page tables.
    #[serde(default)]
    pub cbitpos: Option<u32>,
    /// How many bits of physical addresses encryption takes.
    #[serde(default)]
    pub reduced_phys_bits: Option<u32>,
}

/// `query-sev`, as far as it is needed.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct GuestInfo {
    /// Whether it is a SEV guest.
    pub enabled: bool,
    /// The firmware's API version.
    #[serde(default)]
    pub api_major: u8,
    /// The firmware's API version.
    #[serde(default)]
    pub api_minor: u8,
    /// The firmware's build.
    #[serde(default)]
    pub build_id: u8,
    /// The policy that the guest was started with.
    #[serde(default)]
    pub policy: u32,
    /// `uninit`, `launch-update`, `launch-secret`, `running`, …
    #[serde(default)]
    pub state: String,
    /// `sev` or `sev-snp`; QEMU before 9.1 does not say it.
    #[serde(default)]
    pub sev_type: Option<String>,
}

#[derive(Deserialize)]
struct Measured {
    data: Base64<48>,
}

#[derive(Deserialize)]
struct Status {
    status: String,
}

/// A QEMU that is talked to.
pub struct Qemu {
    qmp: Qmp,
    answer_within: Duration,
}

impl Qemu {
    /// One that was connected to. `answer_within` is also how long a guest may take to be measured.
    #[must_use]
    pub fn new(qmp: Qmp, answer_within: Duration) -> Self {
        Self { qmp, answer_within }
    }

    /// QEMU's version.
    #[must_use]
    pub fn version(&self) -> &str {
        self.qmp.version()
    }

    /// The platform's certificates.
    ///
    /// # Errors
    /// [`QemuError`]; QEMU says why it has none, such as that it can't open `/dev/sev`.
    pub fn capabilities(&mut self) -> Result<Capabilities, QemuError> {
        self.ask("query-sev-capabilities")
    }

    /// Waits until the guest is measured and paused, in the state in which secrets are injected; `expected` is the
    /// launch's policy.
    ///
    /// # Errors
    /// [`QemuError`]: it is no SEV guest, runs, or was started with something else.
    pub fn measured(&mut self, expected: Option<u32>) -> Result<GuestInfo, QemuError> {
        let until = Instant::now() + self.answer_within;
        loop {
            let info = self.info()?;
            if !info.enabled {
                return Err(QemuError::NotSev);
            }
            if let Some(other) = info.sev_type.as_ref().filter(|kind| *kind != "sev") {
                return Err(QemuError::OtherType(other.clone()));
            }
            match info.state.as_str() {
                "launch-secret" => {}
                "uninit" | "launch-update" if Instant::now() < until => {
                    self.pause(LOOKED_EACH)?;
                    continue;
                }
                "running" => return Err(QemuError::NotPaused { status: info.state }),
                _ => return Err(QemuError::WrongState { state: info.state }),
            }
            if let Some(expected) = expected.filter(|expected| *expected != info.policy) {
                return Err(QemuError::Policy {
                    started: info.policy,
                    expected,
                });
            }
            self.paused()?;
            return Ok(info);
        }
    }

    /// The measurement, 48 bytes.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn measurement(&mut self) -> Result<[u8; Measurement::SIZE], QemuError> {
        let measured: Measured = self.ask("query-sev-launch-measure")?;
        Ok(measured.data.0)
    }

    /// Lets time pass, with an ear on QEMU.
    ///
    /// # Errors
    /// [`QemuError`]: it ended, or somebody resumed the guest or shut it down; as soon as that is.
    pub fn pause(&mut self, duration: Duration) -> Result<(), QemuError> {
        let events = self.qmp.listen(duration, &["RESUME", "SHUTDOWN"])?;
        let came = |name: &str| events.iter().any(|event| event == name);
        match (came("RESUME"), came("SHUTDOWN")) {
            (true, _) => Err(QemuError::Resumed),
            (false, true) => Err(QemuError::ShutDown),
            (false, false) => Ok(()),
        }
    }

    /// Injects a packet. Where in the guest's memory is what OVMF says in its image. Looks once more whether the guest
    /// may have it.
    ///
    /// # Errors
    /// [`QemuError`]: [`QmpError::Refused`] where the PSP or QEMU refuses, so that nothing is in the guest; any other
    /// failure of the conversation means that it is not known.
    pub fn inject(&mut self, header: &[u8], payload: &[u8]) -> Result<(), QemuError> {
        self.pause(Duration::ZERO)?;
        self.measured(None)?;
        // It may have run in between, and be paused again.
        self.pause(Duration::ZERO)?;
        let packet = json!({
            "packet-header": Base64Bytes(header.to_vec()),
            "secret": Base64Bytes(payload.to_vec()),
        });
        self.execute("sev-inject-launch-secret", Some(packet))?;
        Ok(())
    }

    /// Resumes the guest.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn resume(&mut self) -> Result<(), QemuError> {
        self.execute("cont", None)?;
        Ok(())
    }

    /// Ends QEMU, and with it the guest.
    ///
    /// # Errors
    /// [`QemuError`]. One that ends without an answer has done what it was told.
    pub fn quit(&mut self) -> Result<(), QemuError> {
        match self.execute("quit", None) {
            Ok(_) | Err(QemuError::Qmp(QmpError::Gone { .. })) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether the guest still waits, paused, as it did when it was measured.
    ///
    /// # Errors
    /// [`QemuError`]: it does not, or does not say so.
    pub fn waits(&mut self) -> Result<(), QemuError> {
        self.pause(Duration::ZERO)?;
        self.paused()
    }

    fn info(&mut self) -> Result<GuestInfo, QemuError> {
        self.ask("query-sev")
    }

    fn paused(&mut self) -> Result<(), QemuError> {
        let Status { status } = self.ask("query-status")?;
        match status.as_str() {
            "prelaunch" | "paused" => Ok(()),
            _ => Err(QemuError::NotPaused { status }),
        }
    }

    fn ask<T: for<'a> Deserialize<'a>>(&mut self, command: &'static str) -> Result<T, QemuError> {
        let answer = self.execute(command, None)?;
        serde_json::from_value(answer).map_err(|error| QemuError::Answer {
            command,
            why: format!("QEMU's answer is not what this command returns: {error}"),
        })
    }

    fn execute(&mut self, command: &str, arguments: Option<Value>) -> Result<Value, QemuError> {
        self.qmp.execute(command, arguments).map_err(|error| match error {
            QmpError::Refused { command, class, .. } if class == "CommandNotFound" => QemuError::TooOld {
                command,
                version: self.qmp.version().to_owned(),
            },
            other => other.into(),
        })
    }
}
