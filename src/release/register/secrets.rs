//! Secrets: checked, compared with what is stored, sealed.

use openssl::memcmp;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::RegisterError;
use super::draft::{Draft, change};
use super::versions;
use super::workloads::MAX_POLICIES;
use crate::domain::object::{Action, Change, SecretKind, SecretObject, SecretValue};
use crate::domain::revision::By;
use crate::domain::state::SecretInfo;
use crate::domain::token::Caller;
use crate::domain::{Labels, Name, Role};
use crate::release::report;
use crate::sealing::{Place, SealError};
use crate::sev::secret_table::{self, Entry, LUKS_PASSPHRASE};

/// The longest value: what fits the largest secret table beside its headers.
const MAX_VALUE: usize = secret_table::MAX - 48;

/// A secret to be put, however it was written.
pub(super) struct NewSecret<'a> {
    pub(super) name: &'a Name,
    pub(super) kind: SecretKind,
    pub(super) guid: Option<Uuid>,
    /// None: the present one.
    pub(super) value: Option<&'a SecretValue>,
    pub(super) policies: &'a [String],
    pub(super) labels: &'a Labels,
    pub(super) by: Option<By>,
}

impl Draft<'_> {
    /// Whoever only writes secrets does not decide who gets those that are there: one whose value the server drew
    /// would be theirs, under a policy of their own.
    pub(super) fn put_secret(
        &mut self,
        object: &SecretObject,
        caller: &Caller,
    ) -> Result<Change, RegisterError> {
        let role = caller.role;
        let bound = self.secrets.get(&object.name).map(|old| &old.policies);
        if role == Role::SecretWriter && bound.is_some_and(|bound| *bound != object.policies) {
            let why = format!(
                "a token of role {role} does not change the policies that are bound to a secret; say the ones that are"
            );
            return Err(RegisterError::forbidden(format!("Secret {}", object.name), why).at("policies"));
        }
        self.put(&NewSecret {
            name: &object.name,
            kind: object.kind,
            guid: object.guid,
            value: object.value.as_ref(),
            policies: &object.policies,
            labels: &object.labels,
            by: Some(versions::by(caller)),
        })
    }

    pub(super) fn put(&mut self, new: &NewSecret<'_>) -> Result<Change, RegisterError> {
        let label = format!("Secret {}", new.name);
        let guid = match (new.kind, new.guid) {
            (_, Some(guid)) => guid,
            (SecretKind::LuksPassphrase, None) => LUKS_PASSPHRASE,
            (SecretKind::Opaque, None) => {
                return Err(RegisterError::invalid(label, "an opaque secret needs a `guid`"));
            }
            (SecretKind::ReportKey, None) => {
                let why = "a report-key needs a `guid`: that of the entry with the signed report";
                return Err(RegisterError::invalid(label, why));
            }
        };
        let old = self.secrets.get(new.name).cloned();
        if new.policies.len() > MAX_POLICIES {
            let why = format!("binds more than {MAX_POLICIES} policies");
            return Err(RegisterError::invalid(label, why).at("policies"));
        }
        // Whether there is a new value or not: the table is made of both when it is released.
        secret_table::check_guid(guid)
            .map_err(|e| RegisterError::invalid(&label, e).because_of("guid", guid, None))?;
        match new.value {
            Some(SecretValue::Base64(value)) => check(&label, new.kind, guid, &value.0)?,
            Some(SecretValue::Generate(_)) if new.kind == SecretKind::ReportKey => {
                let why = "a report-key is made where its public key is known too: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256";
                return Err(RegisterError::invalid(label, why).at("value.generate"));
            }
            Some(SecretValue::Generate(bytes)) => fits(&label, generated_length(new.kind, *bytes))?,
            None => {}
        }
        let value = self.value(&label, new, old.as_ref())?;
        if let Some(value) = &value {
            check(&label, new.kind, guid, value)?;
        }
        let last = self.before.last_versions.get(new.name).copied().unwrap_or(0);
        let policies = new.policies.to_vec();
        let labels = new.labels.clone();
        let (kind, name) = (new.kind, new.name.clone());
        let info = match (&value, &old) {
            (Some(value), _) => SecretInfo {
                name,
                kind,
                guid,
                version: last + 1,
                bytes: u32::try_from(value.len()).unwrap_or(u32::MAX),
                policies,
                updated: self.service.parts.clock.now(),
                labels,
                by: new.by.clone(),
                rollback_of: None,
            },
            (None, Some(old)) => SecretInfo {
                kind,
                guid,
                policies,
                labels,
                ..old.clone()
            },
            (None, None) => {
                let why = "is not registered, so that it needs a `value`: from a file, or `generate: 32`";
                return Err(RegisterError::invalid(label, why));
            }
        };
        let version = info.version;
        let action = match &old {
            None => Action::Created,
            Some(old) if *old == info => Action::Unchanged,
            Some(_) => Action::Updated,
        };
        if let Some(value) = value {
            let place = Place::Secret {
                owner: &self.before.owner,
                name: new.name,
                version,
            };
            let parts = &self.service.parts;
            let sealed = parts.sealer.seal(place, &value, parts.random.as_ref())?;
            self.keep_sealed(new.name, sealed);
        }
        self.secrets.insert(new.name.clone(), info);
        Ok(change(
            "Secret",
            new.name,
            action,
            Some(format!("version {version}")),
        ))
    }

    /// The new value; none if it is the one that is stored.
    fn value(
        &self,
        label: &str,
        new: &NewSecret<'_>,
        old: Option<&SecretInfo>,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, RegisterError> {
        let Some(said) = new.value else {
            return match old {
                // A passphrase has no NUL byte, which other bytes may have.
                Some(old) if old.kind != new.kind => Err(RegisterError::invalid(
                    label,
                    format!(
                        "is of type {} with its present value; another type needs a `value`",
                        old.kind.as_str()
                    ),
                )
                .at("type")),
                _ => Ok(None),
            };
        };
        match said {
            SecretValue::Generate(0) => {
                Err(RegisterError::invalid(label, "`generate` must be at least 1 byte").at("value.generate"))
            }
            // Drawn once: applying the same manifest again must not lock a guest out of its disk.
            SecretValue::Generate(_) if old.is_some_and(|old| old.kind == new.kind) => Ok(None),
            SecretValue::Generate(length) => {
                let mut bytes = Zeroizing::new(vec![0; usize::from(*length)]);
                self.service
                    .parts
                    .random
                    .fill(&mut bytes)
                    .map_err(SealError::from)?;
                if new.kind == SecretKind::LuksPassphrase {
                    use base64::Engine as _;
                    let text =
                        Zeroizing::new(base64::engine::general_purpose::STANDARD_NO_PAD.encode(&bytes));
                    bytes = Zeroizing::new(text.as_bytes().to_vec());
                }
                Ok(Some(bytes))
            }
            SecretValue::Base64(value) => {
                if let Some(old) = old
                    && let Some(stored) = self.stored(old)?
                    && stored.len() == value.0.len()
                    && memcmp::eq(&stored, &value.0)
                {
                    return Ok(None);
                }
                Ok(Some(Zeroizing::new(value.0.clone())))
            }
        }
    }

    fn stored(&self, secret: &SecretInfo) -> Result<Option<Zeroizing<Vec<u8>>>, RegisterError> {
        let owner = &self.before.owner;
        let asked = [(secret.name.clone(), secret.version)];
        let sealed = self
            .service
            .store()
            .sealed_secrets(owner, &asked)?
            .pop()
            .flatten();
        let Some(sealed) = sealed else { return Ok(None) };
        let place = Place::Secret {
            owner,
            name: &secret.name,
            version: secret.version,
        };
        Ok(Some(self.service.parts.sealer.open(place, &sealed)?))
    }
}

/// How long the value is that is made of so many random bytes.
fn generated_length(kind: SecretKind, bytes: u16) -> usize {
    match kind {
        SecretKind::Opaque | SecretKind::ReportKey => usize::from(bytes),
        // Base64 without padding: four characters for three bytes.
        SecretKind::LuksPassphrase => (usize::from(bytes) * 4).div_ceil(3),
    }
}

fn fits(label: &str, length: usize) -> Result<(), RegisterError> {
    if length > MAX_VALUE {
        let why = format!("the value has {length} bytes, at most {MAX_VALUE} fit a secret table");
        return Err(RegisterError::invalid(label, why).at("value"));
    }
    Ok(())
}

/// Why this can't be the value of a secret of this type, if it can't.
pub(crate) fn unfit(kind: SecretKind, guid: Uuid, value: &[u8]) -> Option<String> {
    match check("", kind, guid, value).err()? {
        RegisterError::Invalid(found) => Some(found.why),
        other => Some(other.to_string()),
    }
}

fn check(label: &str, kind: SecretKind, guid: Uuid, value: &[u8]) -> Result<(), RegisterError> {
    if value.is_empty() {
        return Err(RegisterError::invalid(label, "the value is empty").at("value"));
    }
    fits(label, value.len())?;
    if kind == SecretKind::LuksPassphrase && value.contains(&0) {
        let why = "a passphrase must not contain a NUL byte: the guest would read it only up to there";
        return Err(RegisterError::invalid(label, why).at("value"));
    }
    if kind == SecretKind::ReportKey && report::read_key(value).is_none() {
        let why = "a report-key is a private key on the curve P-256, as PKCS#8 in PEM or DER";
        return Err(RegisterError::invalid(label, why).at("value"));
    }
    let entry = Entry {
        guid,
        data: Zeroizing::new(value.to_vec()),
    };
    secret_table::build(&[entry]).map_err(|e| RegisterError::invalid(label, e).at("value"))?;
    Ok(())
}
