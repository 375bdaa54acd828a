//! Values of secrets, opened, and the table of them that a guest is given, before it is wrapped for it.

use zeroize::Zeroizing;

use super::entries::Values;
use super::facts::{Attested, Source};
use super::{Refusal, Service};
use crate::domain::Name;
use crate::domain::decision::SecretVersion;
use crate::sealing::{Place, SealError};
use crate::sev::{PacketError, secret_table};

/// A secret table, or why there is none.
pub(super) type Table = Result<Zeroizing<Vec<u8>>, Unpacked>;

/// Why secrets can't be wrapped.
pub(super) enum Unpacked {
    /// These secrets never can: a denial.
    Never(String),
    /// The library or the random source failed: nobody's fault, and no denial.
    NotNow(String),
}

impl From<PacketError> for Unpacked {
    fn from(error: PacketError) -> Self {
        match error {
            PacketError::Random(_) | PacketError::Crypto(_) => Self::NotNow(error.to_string()),
            other => Self::Never(other.to_string()),
        }
    }
}

impl Service {
    /// The values of these versions; none when one was replaced or destroyed meanwhile.
    pub(super) fn values(&self, owner: &Name, secrets: &[SecretVersion]) -> Result<Option<Values>, Refusal> {
        let versions: Vec<_> = secrets
            .iter()
            .map(|secret| (secret.name.clone(), secret.version))
            .collect();
        let sealed = self.store().sealed_secrets(owner, &versions)?;
        let Some(sealed) = sealed.into_iter().collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let places = versions.iter().zip(&sealed).map(|((name, version), sealed)| {
            let place = Place::Secret {
                owner,
                name,
                version: *version,
            };
            (place, sealed.as_slice())
        });
        let opened = self.parts.sealer.open_all(&places.collect::<Vec<_>>());
        let mut values = Vec::with_capacity(secrets.len());
        for (secret, value) in secrets.iter().zip(opened) {
            let value = match value {
                // It was re-wrapped since it was read.
                Err(SealError::Retired(_)) => return Ok(None),
                value => value?,
            };
            values.push((secret.name.clone(), value));
        }
        Ok(Some(values))
    }
}

/// The table of these entries, for the firmware that was measured.
pub(super) fn table(entries: &[secret_table::Entry], attested: &Attested<'_>) -> Table {
    let area = match &attested.source {
        Source::Candidate(candidate) => candidate.secret_area,
        Source::Hint => None,
    };
    let area = area.map_or(secret_table::DEFAULT_AREA, |area| {
        usize::try_from(area).unwrap_or(usize::MAX)
    });
    let table = secret_table::build_for_area(entries, area.min(secret_table::MAX));
    table.map_err(|e| Unpacked::Never(e.to_string()))
}
