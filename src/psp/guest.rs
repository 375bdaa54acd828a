//! One guest, from LAUNCH_START to LAUNCH_FINISH.

use openssl::memcmp;
use openssl::sha::{Sha256, sha256};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::sev::crypto::aes_128_ctr;
use crate::sev::encoding::{array_at, u32_at};
use crate::sev::measurement;
use crate::sev::packet::{FIRST_BOUND_API, HEADER_SIZE, mac};
use crate::sev::secret_table::MAX;
use crate::sev::{Build, Digest, LaunchKeys, Measurement, SevPolicy};

use super::Status;
use super::platform::{Faults, random};

/// The states of a guest's launch.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuestState {
    /// LUPDATE: memory is being loaded and measured.
    Update,
    /// LSECRET: measured; secrets may be injected.
    Secret,
    /// RUNNING.
    Running,
}

/// A guest being launched. It holds the launch's keys, which are cleared on drop.
pub struct Guest {
    pub(super) state: GuestState,
    pub(super) active: bool,
    pub(super) build: Build,
    pub(super) policy: SevPolicy,
    pub(super) keys: LaunchKeys,
    pub(super) contents: Contents,
    pub(super) faults: Faults,
}

/// What was loaded: first its running hash, then what was measured.
pub(super) enum Contents {
    Nothing,
    Loading(Sha256),
    Measured {
        digest: Digest,
        measurement: Measurement,
    },
}

const VMSA: usize = 4096;
const COMPRESSED: u32 = 1;

impl Guest {
    pub(super) fn started(build: Build, policy: SevPolicy, keys: LaunchKeys, faults: Faults) -> Self {
        Self {
            state: GuestState::Update,
            active: true,
            build,
            policy,
            keys,
            contents: Contents::Nothing,
            faults,
        }
    }

    /// LAUNCH_UPDATE_DATA: loads memory, in multiples of 16 bytes.
    pub fn launch_update_data(&mut self, data: &[u8]) -> Result<(), Status> {
        self.require(GuestState::Update)?;
        if data.is_empty() || !data.len().is_multiple_of(16) {
            return Err(Status::Length);
        }
        self.load(data)
    }

    /// LAUNCH_UPDATE_VMSA: loads a vCPU's state, 4096 bytes; for SEV-ES guests.
    pub fn launch_update_vmsa(&mut self, vmsa: &[u8]) -> Result<(), Status> {
        self.require(GuestState::Update)?;
        if !self.policy.es() {
            return Err(Status::Policy);
        }
        if vmsa.len() != VMSA {
            return Err(Status::Length);
        }
        self.load(vmsa)
    }

    /// LAUNCH_MEASURE: `measure[32]` ‖ `mnonce[16]` with a fresh nonce. From here on nothing more is loaded.
    pub fn launch_measure(&mut self) -> Result<[u8; Measurement::SIZE], Status> {
        self.require(GuestState::Update)?;
        let digest = match std::mem::replace(&mut self.contents, Contents::Nothing) {
            Contents::Loading(hash) => hash.finish(),
            _ => sha256(&[]),
        };
        let mnonce = random().map_err(|_| Status::Hardware)?;
        let measurement = Measurement {
            measure: self.measure(&digest, &mnonce),
            mnonce,
        };
        self.contents = Contents::Measured { digest, measurement };
        self.state = GuestState::Secret;
        Ok(self
            .faults
            .replayed_measurement
            .unwrap_or_else(|| measurement.to_bytes()))
    }

    /// LAUNCH_SECRET: checks a packet and returns what it puts into guest memory. `guest_len` is the length of
    /// the guest's buffer. Where it lies is not authenticated, so it is not asked for.
    pub fn launch_secret(
        &self,
        header: &[u8],
        payload: &[u8],
        guest_len: usize,
    ) -> Result<Zeroizing<Vec<u8>>, Status> {
        self.require(GuestState::Secret)?;
        let fits = !payload.is_empty() && payload.len().is_multiple_of(16) && payload.len() <= MAX;
        if header.len() != HEADER_SIZE || guest_len != payload.len() || !fits {
            return Err(Status::Length);
        }
        let flags = u32_at(header, 0).ok_or(Status::Length)?;
        let iv = array_at(header, 4).ok_or(Status::Length)?;
        let sent: [u8; 32] = array_at(header, 20).ok_or(Status::Length)?;
        if flags & COMPRESSED != 0 {
            return Err(Status::Unsupported);
        }
        let Contents::Measured { measurement, .. } = &self.contents else {
            return Err(Status::GuestState);
        };
        // Firmware before 0.17 does not bind a packet to the guest that was measured.
        let bound = (self.build.api_major, self.build.api_minor) >= FIRST_BOUND_API;
        let expected = mac(
            &self.keys,
            flags,
            &iv,
            payload,
            bound.then_some(&measurement.measure),
        )
        .map_err(|_| Status::Hardware)?;
        if !memcmp::eq(&expected, &sent) {
            return Err(Status::Measurement);
        }
        aes_128_ctr(&self.keys.tek, &iv, payload).map_err(|_| Status::Hardware)
    }

    /// LAUNCH_FINISH: the guest runs, and takes no more secrets.
    pub fn launch_finish(&mut self) -> Result<(), Status> {
        self.require(GuestState::Secret)?;
        self.state = GuestState::Running;
        Ok(())
    }

    /// ACTIVATE: gives the guest an address space. Guests are active from their start, as KVM activates them.
    pub fn activate(&mut self) {
        self.active = true;
    }

    /// DEACTIVATE: takes the address space away. An inactive guest takes no memory and no secrets.
    pub fn deactivate(&mut self) {
        self.active = false;
    }

    /// GUEST_STATUS: where the launch stands.
    pub fn state(&self) -> GuestState {
        self.state
    }

    /// The policy it was started with.
    pub fn policy(&self) -> SevPolicy {
        self.policy
    }

    /// The firmware that it reports.
    pub fn build(&self) -> Build {
        self.build
    }

    /// What was measured, once it was; the PSP itself never shows it, hosts compute it.
    pub fn launch_digest(&self) -> Option<Digest> {
        match &self.contents {
            Contents::Measured { digest, .. } => Some(*digest),
            _ => None,
        }
    }

    fn require(&self, state: GuestState) -> Result<(), Status> {
        if self.state != state {
            return Err(Status::GuestState);
        }
        if !self.active {
            return Err(Status::Inactive);
        }
        Ok(())
    }

    fn load(&mut self, data: &[u8]) -> Result<(), Status> {
        if let Contents::Nothing = self.contents {
            self.contents = Contents::Loading(Sha256::new());
        }
        match &mut self.contents {
            Contents::Loading(hash) => {
                hash.update(data);
                Ok(())
            }
            _ => Err(Status::GuestState),
        }
    }

    fn measure(&self, digest: &Digest, mnonce: &[u8; 16]) -> [u8; 32] {
        let Faults {
            wrong_build,
            wrong_policy,
            wrong_digest,
            ..
        } = self.faults;
        let build_id = self.build.build_id ^ u8::from(wrong_build);
        let policy = SevPolicy(self.policy.bits() ^ u32::from(wrong_policy));
        let digest = if wrong_digest { sha256(digest) } else { *digest };
        measurement::compute(
            &self.keys,
            Build {
                build_id,
                ..self.build
            },
            policy,
            &digest,
            mnonce,
        )
    }
}
