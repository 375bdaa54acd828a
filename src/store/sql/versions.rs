//! Versions of secrets: the current one, those before it, and what is left of those that were purged.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::engine::{Connection, Optional as _, params};

use super::rows::{self, to_json};
use super::{RowError, objects};
use crate::domain::impact::InUse;
use crate::domain::secret_version::{Purge, SecretVersionInfo, VersionState};
use crate::domain::state::SecretInfo;
use crate::domain::{Name, Time};

/// All versions of a secret that are known, newest first. Who holds them fast is for the caller to add.
pub(super) fn list(c: &Connection, owner: &Name, name: &Name) -> Result<Vec<SecretVersionInfo>, RowError> {
    let mut statement = c.prepare_cached(
        "SELECT document, NULL, NULL, 1 FROM secrets WHERE owner = ?1 AND name = ?2
         UNION ALL
         SELECT document, purged, purged_by, 0 FROM earlier_secrets WHERE owner = ?1 AND name = ?2",
    )?;
    let mut found = statement.query([owner.as_str(), name.as_str()])?;
    let mut versions = Vec::new();
    while let Some(row) = found.next()? {
        let info: SecretInfo = rows::json("a secret", row, 0)?;
        let purged = row.get::<Option<i64>>(1)?.map(Time::from_millis);
        let by: Option<String> = row.get(2)?;
        versions.push(SecretVersionInfo {
            version: info.version,
            state: match (row.get::<bool>(3)?, purged) {
                (true, _) => VersionState::Current,
                (false, None) => VersionState::Earlier,
                (false, Some(_)) => VersionState::Purged,
            },
            kind: info.kind,
            guid: info.guid,
            bytes: info.bytes,
            created: info.updated,
            by: info.by,
            rollback_of: info.rollback_of,
            pinned_by: Vec::new(),
            purged,
            purged_by: by
                .map(|by| rows::from_json("who purged a secret", &by))
                .transpose()?,
        });
    }
    versions.sort_by_key(|version| std::cmp::Reverse(version.version));
    Ok(versions)
}

/// What is known of one version that is not purged; its policies are those that are bound to the secret now.
pub(super) fn find(
    c: &Connection,
    owner: &Name,
    current: SecretInfo,
    version: u64,
) -> Result<Option<SecretInfo>, RowError> {
    if current.version == version {
        return Ok(Some(current));
    }
    let version = i64::try_from(version).map_err(|e| rows::damaged("a secret's version", e))?;
    let mut statement = c.prepare_cached(
        "SELECT document FROM earlier_secrets
         WHERE owner = ?1 AND name = ?2 AND version = ?3 AND sealed IS NOT NULL",
    )?;
    let mut found = statement.query(params![owner.as_str(), current.name.as_str(), version])?;
    let Some(row) = found.next()? else { return Ok(None) };
    Ok(Some(SecretInfo {
        policies: current.policies,
        ..rows::json("a secret", row, 0)?
    }))
}

/// What can be released of each of these secrets that is there: its current value, and those that are held fast, by
/// every version that has them.
pub(super) fn in_use(
    c: &Connection,
    owner: &Name,
    names: &BTreeSet<&Name>,
) -> Result<BTreeMap<Name, InUse>, RowError> {
    let mut in_use = BTreeMap::new();
    if names.is_empty() {
        return Ok(in_use);
    }
    let state = objects::owner_state(c, owner)?;
    let workloads = state.workloads.iter().map(|registered| &registered.workload.pins);
    let pins: Vec<_> = workloads
        .chain(state.keysets.iter().map(|set| &set.pins))
        .collect();
    for name in names {
        let Some(current) = state.secrets.iter().find(|secret| secret.name == **name) else {
            continue;
        };
        let versions = list(c, owner, name)?;
        let origin = |version: u64| {
            // Each goes back to an older one, so that this comes to an end.
            let mut at = version;
            while let Some(older) = versions
                .iter()
                .find(|known| known.version == at)
                .and_then(|known| known.rollback_of)
                .filter(|older| *older < at)
            {
                at = older;
            }
            at
        };
        let held = pins.iter().filter_map(|pins| pins.get(*name).copied());
        let origins: BTreeSet<u64> = held.chain([current.version]).map(origin).collect();
        let all = versions.iter().map(|known| known.version);
        let now = InUse {
            current: current.version,
            versions: all
                .filter(|version| origins.contains(&origin(*version)))
                .collect(),
        };
        in_use.insert((*name).clone(), now);
    }
    Ok(in_use)
}

/// The sealed value of a version, whether current or earlier.
pub(super) fn sealed(
    c: &Connection,
    owner: &Name,
    name: &Name,
    version: u64,
) -> Result<Option<Vec<u8>>, RowError> {
    let version = i64::try_from(version).map_err(|e| rows::damaged("a secret's version", e))?;
    let mut statement = c.prepare_cached(
        "SELECT sealed FROM secrets WHERE owner = ?1 AND name = ?2 AND version = ?3
         UNION ALL
         SELECT sealed FROM earlier_secrets
         WHERE owner = ?1 AND name = ?2 AND version = ?3 AND sealed IS NOT NULL",
    )?;
    let found = statement.query_row(params![owner.as_str(), name.as_str(), version], |row| row.get(0));
    found.optional()
}

/// The last version that each secret ever had.
pub(super) fn last(c: &Connection, owner: &Name) -> Result<BTreeMap<Name, u64>, RowError> {
    let mut statement = c.prepare_cached("SELECT name, last FROM secret_versions WHERE owner = ?1")?;
    let mut found = statement.query([owner.as_str()])?;
    let mut versions = BTreeMap::new();
    while let Some(row) = found.next()? {
        versions.insert(
            rows::name("a secret's name", row, 0)?,
            rows::natural("a secret's version", row, 1)?,
        );
    }
    Ok(versions)
}

/// Writes a secret; with a value, as a new version, and keeps the one before.
pub(super) fn put(
    c: &Connection,
    owner: &str,
    secret: &SecretInfo,
    sealed: Option<&[u8]>,
) -> Result<(), RowError> {
    let document = to_json("a secret", secret)?;
    let version = i64::try_from(secret.version).map_err(|e| rows::damaged("a secret's version", e))?;
    let name = secret.name.as_str();
    let Some(sealed) = sealed else {
        c.execute(
            "UPDATE secrets SET document = ?3 WHERE owner = ?1 AND name = ?2 AND version = ?4",
            params![owner, name, document, version],
        )?;
        return Ok(());
    };
    keep(c, owner, name)?;
    c.execute(
        "INSERT INTO secrets (owner, name, version, document, sealed) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (owner, name) DO UPDATE SET version = ?3, document = ?4, sealed = ?5",
        params![owner, name, version, document, sealed],
    )?;
    let raised = c.execute(
        "INSERT INTO secret_versions VALUES (?1, ?2, ?3)
         ON CONFLICT (owner, name) DO UPDATE SET last = ?3 WHERE secret_versions.last < ?3",
        params![owner, name, version],
    )?;
    if raised == 1 {
        Ok(())
    } else {
        Err(rows::damaged("a secret's version", "it was used before"))
    }
}

/// Keeps what is current, before another version takes its place.
fn keep(c: &Connection, owner: &str, name: &str) -> Result<(), RowError> {
    c.execute(
        "INSERT INTO earlier_secrets (owner, name, version, document, sealed)
         SELECT owner, name, version, document, sealed FROM secrets WHERE owner = ?1 AND name = ?2",
        [owner, name],
    )?;
    Ok(())
}

/// Destroys the value of an earlier version; what is known of it stays.
pub(super) fn purge(c: &Connection, owner: &str, purge: &Purge) -> Result<(), RowError> {
    let version = i64::try_from(purge.version).map_err(|e| rows::damaged("a secret's version", e))?;
    let by = purge
        .by
        .as_ref()
        .map(|by| to_json("who purged a secret", by))
        .transpose()?;
    let name = purge.name.as_str();
    c.execute(
        "UPDATE earlier_secrets SET sealed = NULL, purged = ?4, purged_by = ?5
         WHERE owner = ?1 AND name = ?2 AND version = ?3 AND sealed IS NOT NULL",
        params![owner, name, version, purge.time.millis(), by],
    )?;
    Ok(())
}

/// Forgets all versions of a secret that is deleted.
pub(super) fn delete(c: &Connection, owner: &str, name: &str) -> Result<(), RowError> {
    c.execute(
        "DELETE FROM earlier_secrets WHERE owner = ?1 AND name = ?2",
        [owner, name],
    )?;
    Ok(())
}
