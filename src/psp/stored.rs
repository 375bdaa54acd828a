//! CA, platform and guest as bytes, so that a program can keep them between its runs. The bytes are JSON and
//! hold private keys in clear: they are for trying things, not for anything that matters.

use base64::prelude::{BASE64_STANDARD, Engine};
use openssl::pkey::{PKey, Private};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::sev::{Build, CaCertificate, Certificate, LaunchKeys, Measurement, SevPolicy};

use super::guest::{Contents, Guest, GuestState};
use super::platform::{Certificates, Faults, Keys, Platform};
use super::{Ca, PspError};

impl Ca {
    /// The CA with its private keys.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, PspError> {
        write(&StoredCa {
            ark: public(self.ark.as_bytes()),
            ask: public(self.ask.as_bytes()),
            ark_key: private(&self.ark_key)?,
            ask_key: private(&self.ask_key)?,
        })
    }

    /// The CA that these bytes are of.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PspError> {
        let stored: StoredCa = read(bytes)?;
        Ok(Self {
            ark: CaCertificate::parse(&decode(&stored.ark)?)?,
            ask: CaCertificate::parse(&decode(&stored.ask)?)?,
            ark_key: key(&stored.ark_key)?,
            ask_key: key(&stored.ask_key)?,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredCa {
    ark: String,
    ask: String,
    ark_key: Secret,
    ask_key: Secret,
}

impl Platform {
    /// The platform with its private keys.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, PspError> {
        write(&StoredPlatform {
            chip_id: hex::encode(self.chip_id),
            build: self.build.into(),
            cek_key: private(&self.keys.cek)?,
            oca_key: private(&self.keys.oca)?,
            pek_key: private(&self.keys.pek)?,
            pdh_key: private(&self.keys.pdh)?,
            certificates: (&self.certificates).into(),
            exported: (&self.exported).into(),
            faults: self.faults.clone(),
        })
    }

    /// The platform that these bytes are of.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PspError> {
        let stored: StoredPlatform = read(bytes)?;
        Ok(Self {
            chip_id: from_hex(&stored.chip_id)?,
            build: stored.build.into(),
            keys: Keys {
                cek: key(&stored.cek_key)?,
                oca: key(&stored.oca_key)?,
                pek: key(&stored.pek_key)?,
                pdh: key(&stored.pdh_key)?,
            },
            certificates: stored.certificates.parse()?,
            exported: stored.exported.parse()?,
            faults: stored.faults,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredPlatform {
    chip_id: String,
    build: StoredBuild,
    cek_key: Secret,
    oca_key: Secret,
    pek_key: Secret,
    pdh_key: Secret,
    certificates: StoredCertificates,
    exported: StoredCertificates,
    faults: Faults,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredCertificates {
    ark: String,
    ask: String,
    cek: String,
    oca: String,
    pek: String,
    pdh: String,
}

impl From<&Certificates> for StoredCertificates {
    fn from(from: &Certificates) -> Self {
        Self {
            ark: public(from.ark.as_bytes()),
            ask: public(from.ask.as_bytes()),
            cek: public(from.cek.as_bytes()),
            oca: public(from.oca.as_bytes()),
            pek: public(from.pek.as_bytes()),
            pdh: public(from.pdh.as_bytes()),
        }
    }
}

impl StoredCertificates {
    fn parse(&self) -> Result<Certificates, PspError> {
        Ok(Certificates {
            ark: CaCertificate::parse(&decode(&self.ark)?)?,
            ask: CaCertificate::parse(&decode(&self.ask)?)?,
            cek: Certificate::parse(&decode(&self.cek)?)?,
            oca: Certificate::parse(&decode(&self.oca)?)?,
            pek: Certificate::parse(&decode(&self.pek)?)?,
            pdh: Certificate::parse(&decode(&self.pdh)?)?,
        })
    }
}

impl Guest {
    /// The guest with its launch's keys. Not while it is being loaded: OpenSSL's running hash cannot be written
    /// down. So write it right after its start, or once it is measured.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, PspError> {
        let measured = match &self.contents {
            Contents::Nothing => None,
            Contents::Loading(_) => {
                return Err(PspError::Stored(
                    "a guest cannot be written between its first load and its measurement".into(),
                ));
            }
            Contents::Measured { digest, measurement } => Some(StoredMeasurement {
                digest: hex::encode(digest),
                measurement: hex::encode(measurement.to_bytes()),
            }),
        };
        write(&StoredGuest {
            state: self.state,
            active: self.active,
            build: self.build.into(),
            policy: self.policy.bits(),
            keys: Secret(BASE64_STANDARD.encode(self.keys.to_bytes().as_slice())),
            measured,
            faults: self.faults.clone(),
        })
    }

    /// The guest that these bytes are of.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PspError> {
        let stored: StoredGuest = read(bytes)?;
        let keys = Zeroizing::new(decode(&stored.keys.0)?);
        let keys = keys
            .as_slice()
            .try_into()
            .map_err(|_| malformed("keys of a launch have 32 bytes"))?;
        let contents = match stored.measured {
            None if stored.state == GuestState::Update => Contents::Nothing,
            Some(measured) if stored.state != GuestState::Update => Contents::Measured {
                digest: from_hex(&measured.digest)?,
                measurement: Measurement::parse(&from_hex::<{ Measurement::SIZE }>(&measured.measurement)?)
                    .map_err(malformed)?,
            },
            _ => return Err(malformed("state and measurement contradict each other")),
        };
        Ok(Self {
            state: stored.state,
            active: stored.active,
            build: stored.build.into(),
            policy: SevPolicy(stored.policy),
            keys: LaunchKeys::from_bytes(keys),
            contents,
            faults: stored.faults,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredGuest {
    state: GuestState,
    active: bool,
    build: StoredBuild,
    policy: u32,
    keys: Secret,
    measured: Option<StoredMeasurement>,
    faults: Faults,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredMeasurement {
    digest: String,
    measurement: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredBuild {
    api_major: u8,
    api_minor: u8,
    build_id: u8,
}

impl From<Build> for StoredBuild {
    fn from(
        Build {
            api_major,
            api_minor,
            build_id,
        }: Build,
    ) -> Self {
        Self {
            api_major,
            api_minor,
            build_id,
        }
    }
}

impl From<StoredBuild> for Build {
    fn from(
        StoredBuild {
            api_major,
            api_minor,
            build_id,
        }: StoredBuild,
    ) -> Self {
        Self {
            api_major,
            api_minor,
            build_id,
        }
    }
}

/// A private key as base64, cleared on drop.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Secret(String);

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

fn public(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn private(key: &PKey<Private>) -> Result<Secret, PspError> {
    let der = Zeroizing::new(key.private_key_to_pkcs8()?);
    Ok(Secret(BASE64_STANDARD.encode(der.as_slice())))
}

fn key(secret: &Secret) -> Result<PKey<Private>, PspError> {
    let der = Zeroizing::new(decode(&secret.0)?);
    Ok(PKey::private_key_from_pkcs8(&der)?)
}

fn decode(text: &str) -> Result<Vec<u8>, PspError> {
    BASE64_STANDARD.decode(text).map_err(|_| malformed("not base64"))
}

fn from_hex<const N: usize>(text: &str) -> Result<[u8; N], PspError> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(malformed)?;
    Ok(bytes)
}

fn write(value: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, PspError> {
    serde_json::to_vec_pretty(value)
        .map(Zeroizing::new)
        .map_err(malformed)
}

/// The error says where, not what stands there, which may be a key.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, PspError> {
    serde_json::from_slice(bytes).map_err(|error| {
        malformed(format_args!(
            "malformed at line {}, column {}",
            error.line(),
            error.column()
        ))
    })
}

fn malformed(reason: impl std::fmt::Display) -> PspError {
    PspError::Stored(reason.to_string())
}

/// An optional array as hex.
pub(super) mod optional_hex {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::psp) fn serialize<S: Serializer, const N: usize>(
        value: &Option<[u8; N]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(hex::encode).serialize(serializer)
    }

    pub(in crate::psp) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<Option<[u8; N]>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| super::from_hex(&text).map_err(D::Error::custom))
            .transpose()
    }
}
