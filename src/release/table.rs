//! The table of secrets that a guest is given, as plain bytes before they are wrapped for it.

use zeroize::Zeroizing;

use super::facts::{Attested, Source};
use super::{Refusal, Service};
use crate::domain::state::{SecretInfo, WorkloadContext};
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
    /// The secret table; none when a secret was replaced meanwhile.
    pub(super) fn table(
        &self,
        context: &WorkloadContext,
        secrets: &[&SecretInfo],
        attested: &Attested<'_>,
    ) -> Result<Option<Table>, Refusal> {
        let versions: Vec<_> = secrets
            .iter()
            .map(|secret| (secret.name.clone(), secret.version))
            .collect();
        let sealed = self.store().sealed_secrets(&context.owner, &versions)?;
        let Some(sealed) = sealed.into_iter().collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let places = secrets.iter().zip(&sealed).map(|(secret, sealed)| {
            let place = Place::Secret {
                owner: &context.owner,
                name: &secret.name,
                version: secret.version,
            };
            (place, sealed.as_slice())
        });
        let opened = self.parts.sealer.open_all(&places.collect::<Vec<_>>());
        let mut entries = Vec::with_capacity(secrets.len());
        for (secret, data) in secrets.iter().zip(opened) {
            let data = match data {
                // It was re-wrapped since it was read.
                Err(SealError::Retired(_)) => return Ok(None),
                data => data?,
            };
            entries.push(secret_table::Entry {
                guid: secret.guid,
                data,
            });
        }
        let area = match &attested.source {
            Source::Candidate(candidate) => candidate.secret_area,
            Source::Hint => None,
        };
        let area = area.map_or(secret_table::DEFAULT_AREA, |area| {
            usize::try_from(area).unwrap_or(usize::MAX)
        });
        let table = secret_table::build_for_area(&entries, area.min(secret_table::MAX));
        Ok(Some(table.map_err(|e| Unpacked::Never(e.to_string()))))
    }
}
