//! One machine: its keys, what it exports about itself, and LAUNCH_START.

use openssl::pkey::{PKey, Private};
use serde::{Deserialize, Serialize};

use crate::sev::certificate::{EC_KEY_SIZE, KEY};
use crate::sev::p384::shared_secret;
use crate::sev::session::derive;
use crate::sev::{
    Build, CaCertificate, Certificate, Random, SessionBlob, SessionError, SevPolicy, SystemRandom,
    UnwrapError, Usage,
};

use super::guest::Guest;
use super::{Ca, PspError, Status, signing};

/// What a platform is made as.
#[derive(Clone, Debug)]
pub struct PlatformOptions {
    /// The chip's id, 64 bytes; random if none.
    pub chip_id: Option<[u8; 64]>,
    /// The firmware.
    pub build: Build,
    /// Ways in which it misbehaves.
    pub faults: Faults,
}

impl Default for PlatformOptions {
    fn default() -> Self {
        let build = Build {
            api_major: 1,
            api_minor: 55,
            build_id: 8,
        };
        Self {
            chip_id: None,
            build,
            faults: Faults::default(),
        }
    }
}

/// Ways in which a platform can misbehave; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Measures with another build than the one it reports.
    pub wrong_build: bool,
    /// Measures with another policy than the guest's.
    pub wrong_policy: bool,
    /// Measures another digest than that of what was loaded.
    pub wrong_digest: bool,
    /// Presents this measurement, one of another launch, instead of its own.
    #[serde(with = "super::stored::optional_hex")]
    pub replayed_measurement: Option<[u8; 48]>,
    /// Exports a PDH that its PEK signed, but whose private key is no longer in use.
    pub stale_pdh: bool,
    /// Exports the CEK of another chip, well signed, that did not sign its PEK.
    pub foreign_cek: bool,
    /// Exports ASK and ARK of an authority that did not sign its CEK.
    pub another_root: bool,
}

/// A platform with keys of its own under a [`Ca`].
#[derive(Clone)]
pub struct Platform {
    pub(super) chip_id: [u8; 64],
    pub(super) build: Build,
    pub(super) keys: Keys,
    pub(super) certificates: Certificates,
    pub(super) exported: Certificates,
    pub(super) faults: Faults,
}

#[derive(Clone)]
pub(super) struct Keys {
    pub(super) cek: PKey<Private>,
    pub(super) oca: PKey<Private>,
    pub(super) pek: PKey<Private>,
    pub(super) pdh: PKey<Private>,
}

#[derive(Clone)]
pub(super) struct Certificates {
    pub(super) ark: CaCertificate,
    pub(super) ask: CaCertificate,
    /// Signed by the ASK.
    pub(super) cek: Certificate,
    pub(super) oca: Certificate,
    pub(super) pek: Certificate,
    pub(super) pdh: Certificate,
}

impl Platform {
    /// Makes a platform under a CA of its own, with keys of 4096 bits. Takes seconds; see
    /// [`generate_with_ca`](Self::generate_with_ca).
    pub fn generate(options: &PlatformOptions) -> Result<Self, PspError> {
        Self::generate_with_ca(&Ca::generate(4096)?, options)
    }

    /// Makes a platform under this CA.
    pub fn generate_with_ca(ca: &Ca, options: &PlatformOptions) -> Result<Self, PspError> {
        let chip_id = match options.chip_id {
            Some(id) => id,
            None => random()?,
        };
        let key = signing::p384_key;
        let keys = Keys {
            cek: key()?,
            oca: key()?,
            pek: key()?,
            pdh: key()?,
        };
        let certificates = certify(ca, &keys, options.build)?;
        let exported = certificates.clone();
        let platform = Self {
            chip_id,
            build: options.build,
            keys,
            certificates,
            exported,
            faults: Faults::default(),
        };
        platform.with_faults(options.faults.clone(), ca)
    }

    /// The same platform, misbehaving in these ways and no others. The CA is the one it was made under.
    pub fn with_faults(mut self, faults: Faults, ca: &Ca) -> Result<Self, PspError> {
        self.exported = self.certificates.clone();
        if faults.stale_pdh {
            self.regenerate_pdh()?;
        }
        if faults.foreign_cek {
            let other = signing::body(Usage::Cek, self.build, &signing::p384_key()?)?;
            self.exported.cek = ca.sign_cek(&signing::certificate(&other, None, None)?)?;
        }
        if faults.another_root {
            let other = Ca::generate(ca.bits())?;
            (self.exported.ark, self.exported.ask) = (other.ark, other.ask);
        }
        self.faults = faults;
        Ok(self)
    }

    /// PDH_GEN without the export: from here on another PDH is in use than [`pdh`](Self::pdh) shows.
    fn regenerate_pdh(&mut self) -> Result<(), PspError> {
        self.keys.pdh = signing::p384_key()?;
        let body = signing::body(Usage::Pdh, self.build, &self.keys.pdh)?;
        let signature = signing::ecdsa(Usage::Pek, &self.keys.pek, &body)?;
        self.certificates.pdh = signing::certificate(&body, Some(signature), None)?;
        Ok(())
    }

    /// The PDH certificate: `pdh` of QEMU's `query-sev-capabilities`.
    pub fn pdh(&self) -> Vec<u8> {
        self.exported.pdh.as_bytes().to_vec()
    }

    /// PEK‖OCA‖CEK with the CEK unsigned: `cert-chain` of `query-sev-capabilities`.
    pub fn cert_chain(&self) -> Result<Vec<u8>, PspError> {
        let cek = signing::certificate(&signing::body_of(&self.exported.cek)?, None, None)?;
        Ok(self.pek_oca_and(&cek))
    }

    /// PEK‖OCA‖CEK with the CEK signed by the ASK.
    pub fn cert_chain_signed(&self) -> Vec<u8> {
        self.pek_oca_and(&self.exported.cek)
    }

    /// PDH‖PEK‖OCA‖CEK‖ASK‖ARK: what `sevctl export --full` writes.
    pub fn full_chain(&self) -> Vec<u8> {
        let Certificates { ark, ask, .. } = &self.exported;
        [
            self.pdh(),
            self.cert_chain_signed(),
            ask.as_bytes().to_vec(),
            ark.as_bytes().to_vec(),
        ]
        .concat()
    }

    /// The root's certificate in AMD's CA format: what an extra root is configured with.
    pub fn ark(&self) -> Vec<u8> {
        self.exported.ark.as_bytes().to_vec()
    }

    /// The ASK's certificate.
    pub fn ask(&self) -> Vec<u8> {
        self.exported.ask.as_bytes().to_vec()
    }

    /// The CEK signed by the ASK: what AMD's service returns for the chip's id.
    pub fn signed_cek(&self) -> Vec<u8> {
        self.exported.cek.as_bytes().to_vec()
    }

    /// The chip's id: `cpu0-id`, and what AMD's service is asked with.
    pub fn chip_id(&self) -> &[u8; 64] {
        &self.chip_id
    }

    /// The firmware.
    pub fn build(&self) -> Build {
        self.build
    }

    /// LAUNCH_START: takes the guest's policy, the guest owner's certificate (2084 bytes) and the session (128
    /// bytes), and starts a guest. As in hardware nothing is remembered of a session: one session starts as many
    /// guests as the host likes.
    pub fn launch_start(&self, policy: u32, godh: &[u8], session: &[u8]) -> Result<Guest, Status> {
        if godh.len() != Certificate::SIZE {
            return Err(Status::Length);
        }
        let blob = SessionBlob::parse(session).ok_or(Status::Length)?;
        let godh = Certificate::parse(&cleaned(godh)).map_err(|_| Status::Certificate)?;
        let z = shared_secret(&self.keys.pdh, &godh).map_err(|error| match error {
            SessionError::NotAPdh(_) | SessionError::Curve => Status::Certificate,
            _ => Status::Hardware,
        })?;
        let policy = SevPolicy(policy);
        let keys = blob
            .unwrap(&derive(&z, &blob.nonce), policy)
            .map_err(|error| match error {
                UnwrapError::WrapMac | UnwrapError::PolicyMac => Status::Measurement,
                UnwrapError::Crypto(_) => Status::Hardware,
            })?;
        let minimum = (policy.min_api_major(), policy.min_api_minor());
        if policy.reserved_bits() != 0 || minimum > (self.build.api_major, self.build.api_minor) {
            return Err(Status::Policy);
        }
        Ok(Guest::started(self.build, policy, keys, self.faults.clone()))
    }

    fn pek_oca_and(&self, cek: &Certificate) -> Vec<u8> {
        [&self.exported.pek, &self.exported.oca, cek]
            .map(|certificate| *certificate.as_bytes())
            .concat()
    }
}

/// PEK is signed by OCA and CEK, PDH by PEK, OCA by itself and CEK by the ASK, in the slots of real platforms.
fn certify(ca: &Ca, keys: &Keys, build: Build) -> Result<Certificates, PspError> {
    let cek = signing::body(Usage::Cek, build, &keys.cek)?;
    let oca = signing::body(Usage::Oca, build, &keys.oca)?;
    let pek = signing::body(Usage::Pek, build, &keys.pek)?;
    let pdh = signing::body(Usage::Pdh, build, &keys.pdh)?;

    let by_oca = |body: &[u8]| signing::ecdsa(Usage::Oca, &keys.oca, body);
    let by_cek = signing::ecdsa(Usage::Cek, &keys.cek, &pek)?;
    let by_pek = signing::ecdsa(Usage::Pek, &keys.pek, &pdh)?;
    Ok(Certificates {
        ark: ca.ark.clone(),
        ask: ca.ask.clone(),
        cek: ca.sign_cek(&signing::certificate(&cek, None, None)?)?,
        oca: signing::certificate(&oca, Some(by_oca(&oca)?), None)?,
        pek: signing::certificate(&pek, Some(by_oca(&pek)?), Some(by_cek))?,
        pdh: signing::certificate(&pdh, Some(by_pek), None)?,
    })
}

/// The owner's certificate with nothing behind the point and no signatures, which LAUNCH_START does not ask for.
/// Tools on the crate `sev` (sevctl) leave whatever lay in memory behind the point; our own parser would refuse it.
fn cleaned(godh: &[u8]) -> Vec<u8> {
    let point_end = KEY + EC_KEY_SIZE;
    let kept = godh
        .iter()
        .enumerate()
        .map(|(offset, byte)| if offset < point_end { *byte } else { 0 });
    kept.collect()
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], crate::sev::RandomError> {
    let mut bytes = [0; N];
    SystemRandom.fill(&mut bytes)?;
    Ok(bytes)
}
