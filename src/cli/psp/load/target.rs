//! What is asked: launches, validations of launches that were begun before, or both one after the other.

use std::net::Ipv4Addr;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::wire::Server;
use crate::domain::Base64;
use crate::http::{LaunchReply, ValidateReply};
use crate::psp::{Guest, Platform};

/// Which requests are made and measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// Sessions alone; their guests are never measured
    Launch,
    /// Secrets for guests that were launched and measured before
    Validate,
    /// A session, then the secrets for its guest
    Flow,
}

/// A platform, and the launch request that it makes.
pub(super) struct Machine {
    pub(super) platform: Platform,
    pub(super) request: Vec<u8>,
    /// The host it is in, for servers that believe their proxy.
    pub(super) address: Option<Ipv4Addr>,
}

impl Machine {
    fn launch(&self, server: &Server, workload: Uuid) -> Vec<u8> {
        server.post(&format!("/vm/{workload}/launch"), self.address, &self.request)
    }
}

/// A guest that was launched and measured, and its validate request.
pub(super) struct Prepared {
    guest: Guest,
    request: Vec<u8>,
}

/// Everything that requests are made of.
pub(super) struct Target {
    pub(super) mode: Mode,
    pub(super) machines: Vec<Machine>,
    pub(super) workloads: Vec<Uuid>,
    /// What every guest is loaded with.
    pub(super) firmware: Vec<u8>,
    pub(super) prepared: Vec<Prepared>,
}

impl Target {
    /// The kinds of requests that are counted, in the order they are made; a whole flow is the last.
    pub(super) fn steps(&self) -> &'static [&'static str] {
        match self.mode {
            Mode::Launch => &["launch"],
            Mode::Validate => &["validate"],
            Mode::Flow => &["launch", "validate", "flow"],
        }
    }

    pub(super) fn is_flow(&self) -> bool {
        self.mode == Mode::Flow
    }

    /// How many can be made; none: without end.
    pub(super) fn available(&self) -> Option<u64> {
        (self.mode == Mode::Validate).then_some(self.prepared.len() as u64)
    }

    /// The requests of number `number`, which takes another platform each time, and each with every workload.
    pub(super) fn play<'a>(&'a self, server: &'a Server, number: u64) -> anyhow::Result<Play<'a>> {
        if self.mode == Mode::Validate {
            let prepared = self.prepared.get(usize::try_from(number)?);
            let prepared = prepared.context("more validations than guests that were launched")?;
            return Ok(Play::Validate(prepared, false));
        }
        let (machine, workload) = self.pair(number)?;
        Ok(Play::Launch {
            target: self,
            server,
            machine,
            workload,
            stage: Stage::Launch,
        })
    }

    fn pair(&self, number: u64) -> anyhow::Result<(&Machine, Uuid)> {
        let platforms = self.machines.len().max(1) as u64;
        let workloads = self.workloads.len().max(1) as u64;
        let machine = self.machines.get(usize::try_from(number % platforms)?);
        let workload = self
            .workloads
            .get(usize::try_from((number / platforms + number) % workloads)?);
        machine
            .zip(workload.copied())
            .context("there is no platform or no workload")
    }

    /// What the PSP and the hypervisor do with a session: the guest, measured, and its validate request.
    pub(super) fn measured(
        &self,
        server: &Server,
        machine: &Machine,
        reply: &[u8],
    ) -> anyhow::Result<Prepared> {
        let reply: LaunchReply = serde_json::from_slice(reply).context("the answer to a launch")?;
        let failed = |command: &'static str| move |status| anyhow::anyhow!("{command}: {status}");
        let mut guest = machine
            .platform
            .launch_start(reply.policy, &reply.owner_cert.0, &reply.session.0)
            .map_err(failed("LAUNCH_START"))?;
        guest
            .launch_update_data(&self.firmware)
            .map_err(failed("LAUNCH_UPDATE_DATA"))?;
        let measurement = guest.launch_measure().map_err(failed("LAUNCH_MEASURE"))?;
        let build = guest.build();
        let body = json!({
            "api-major": build.api_major,
            "api-minor": build.api_minor,
            "build-id": build.build_id,
            "policy": reply.policy,
            "measurement": Base64(measurement),
        });
        let body = serde_json::to_vec(&body)?;
        let request = server.post(&format!("/vm/{}/validate", reply.id), machine.address, &body);
        Ok(Prepared { guest, request })
    }

    /// A launch request of this number, for what is prepared before a run.
    pub(super) fn launch(&self, server: &Server, number: u64) -> anyhow::Result<(&Machine, Vec<u8>)> {
        let (machine, workload) = self.pair(number)?;
        Ok((machine, machine.launch(server, workload)))
    }
}

/// One launch of the mode, request by request.
pub(super) enum Play<'a> {
    /// A validation, and whether it was answered.
    Validate(&'a Prepared, bool),
    /// A launch, and in a flow what follows.
    Launch {
        target: &'a Target,
        server: &'a Server,
        machine: &'a Machine,
        workload: Uuid,
        stage: Stage,
    },
}

/// Where a flow stands.
pub(super) enum Stage {
    Launch,
    Validate(Box<Prepared>),
    Over,
}

impl Play<'_> {
    /// The next request; none: that was all.
    pub(super) fn request(&self) -> Option<std::borrow::Cow<'_, [u8]>> {
        match self {
            Self::Validate(prepared, false) => Some(prepared.request.as_slice().into()),
            Self::Launch {
                server,
                machine,
                workload,
                stage: Stage::Launch,
                ..
            } => Some(machine.launch(server, *workload).into()),
            Self::Launch {
                stage: Stage::Validate(prepared),
                ..
            } => Some(prepared.request.as_slice().into()),
            Self::Validate(_, true) | Self::Launch { .. } => None,
        }
    }

    /// Takes the answer. In a flow a packet is opened as the PSP does, so that what is measured is known to be right.
    pub(super) fn answered(&mut self, body: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Validate(prepared, answered) => {
                *answered = true;
                prepared.opens(body)
            }
            Self::Launch {
                target,
                server,
                machine,
                stage,
                ..
            } => {
                *stage = match std::mem::replace(stage, Stage::Over) {
                    Stage::Launch if target.is_flow() => {
                        Stage::Validate(Box::new(target.measured(server, machine, body)?))
                    }
                    Stage::Validate(prepared) => {
                        prepared.opens(body)?;
                        Stage::Over
                    }
                    Stage::Launch | Stage::Over => Stage::Over,
                };
                Ok(())
            }
        }
    }
}

impl Prepared {
    fn opens(&self, reply: &[u8]) -> anyhow::Result<()> {
        let reply: ValidateReply = serde_json::from_slice(reply).context("the answer to a validation")?;
        let (header, payload) = (&reply.secret_header.0, &reply.secret_payload.0);
        match self.guest.launch_secret(header, payload, payload.len()) {
            Ok(_) => Ok(()),
            Err(status) => bail!("LAUNCH_SECRET: {status}"),
        }
    }
}
