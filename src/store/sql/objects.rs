//! What owners registered: secrets, key sets, firmware, workloads, bundles.

use std::collections::BTreeMap;

use crate::store::engine::{Connection, Optional as _, params};
use uuid::Uuid;

use super::rows::{self, to_json};
use super::{ApplyError, Guarded, Recorded, RowError, StoreError, Taken};
use super::{log, platforms, proposals, revisions, versions};
use crate::domain::secret_version::pinned;
use crate::domain::state::{
    ChangeSet, FirmwareInfo, KeySet, Kind, OwnerState, RegisteredWorkload, SecretInfo, WorkloadContext,
};
use crate::domain::{HexDigest, Name, Time};

pub(super) fn owner_state(c: &Connection, owner: &Name) -> Result<OwnerState, RowError> {
    let head = head(c, owner)?.ok_or_else(|| rows::damaged("an owner", "no such owner"))?;
    Ok(OwnerState {
        owner: owner.clone(),
        generation: head.generation,
        bundle: head.bundle,
        revision: revisions::last(c, owner)?,
        signing_keys: documents(
            c,
            "a signing key",
            "SELECT document FROM signing_keys WHERE owner = ?1 ORDER BY name",
            owner,
        )?,
        policies: head.policies,
        trust: platforms::trust(c, owner)?,
        secrets: documents(
            c,
            "a secret",
            "SELECT document FROM secrets WHERE owner = ?1 ORDER BY name",
            owner,
        )?,
        keysets: documents(
            c,
            "a key set",
            "SELECT document FROM keysets WHERE owner = ?1 ORDER BY name",
            owner,
        )?,
        firmware: documents(
            c,
            "a firmware",
            "SELECT document FROM firmware WHERE owner = ?1 ORDER BY name",
            owner,
        )?,
        workloads: workloads(c, owner)?,
        last_versions: versions::last(c, owner)?,
        last_uuids: last_uuids(c, owner)?,
    })
}

struct Head {
    generation: i64,
    bundle: Option<HexDigest>,
    policies: Vec<String>,
}

fn head(c: &Connection, owner: &Name) -> Result<Option<Head>, RowError> {
    let mut statement =
        c.prepare_cached("SELECT generation, bundle, policies FROM owners WHERE name = ?1")?;
    let mut found = statement.query([owner.as_str()])?;
    let Some(row) = found.next()? else { return Ok(None) };
    Ok(Some(Head {
        generation: row.get(0)?,
        bundle: rows::optional_bytes("a bundle's digest", row, 1)?,
        policies: rows::json("an owner's policies", row, 2)?,
    }))
}

fn documents<T: serde::de::DeserializeOwned>(
    c: &Connection,
    what: &'static str,
    sql: &str,
    owner: &Name,
) -> Result<Vec<T>, RowError> {
    let mut statement = c.prepare_cached(sql)?;
    let mut found = statement.query([owner.as_str()])?;
    let mut documents = Vec::new();
    while let Some(row) = found.next()? {
        documents.push(rows::json(what, row, 0)?);
    }
    Ok(documents)
}

fn workloads(c: &Connection, owner: &Name) -> Result<Vec<RegisteredWorkload>, RowError> {
    let mut statement =
        c.prepare_cached("SELECT document, candidates FROM workloads WHERE owner = ?1 ORDER BY name")?;
    let mut found = statement.query([owner.as_str()])?;
    let mut workloads = Vec::new();
    while let Some(row) = found.next()? {
        workloads.push(RegisteredWorkload {
            workload: rows::json("a workload", row, 0)?,
            candidates: rows::json("a workload's digests", row, 1)?,
        });
    }
    Ok(workloads)
}

pub(super) fn workload_context(c: &Connection, uuid: Uuid) -> Result<Option<WorkloadContext>, RowError> {
    let mut statement =
        c.prepare_cached("SELECT document, candidates, owner FROM workloads WHERE uuid = ?1")?;
    let mut found = statement.query([uuid.as_bytes().as_slice()])?;
    let Some(row) = found.next()? else { return Ok(None) };
    let registered = RegisteredWorkload {
        workload: rows::json("a workload", row, 0)?,
        candidates: rows::json("a workload's digests", row, 1)?,
    };
    let owner = rows::name("a workload's owner", row, 2)?;
    let head = head(c, &owner)?.ok_or_else(|| rows::damaged("a workload's owner", "no such owner"))?;
    let mut keysets: Vec<KeySet> = documents(
        c,
        "a key set",
        "SELECT document FROM keysets WHERE owner = ?1 ORDER BY name",
        &owner,
    )?;
    keysets.retain(|set| {
        set.secrets
            .iter()
            .any(|name| registered.workload.secrets.contains(name))
    });
    let mut secrets: Vec<SecretInfo> = Vec::new();
    for name in &registered.workload.secrets {
        let mut statement =
            c.prepare_cached("SELECT document FROM secrets WHERE owner = ?1 AND name = ?2")?;
        let mut found = statement.query([owner.as_str(), name.as_str()])?;
        let Some(row) = found.next()? else { continue };
        let current: SecretInfo = rows::json("a secret", row, 0)?;
        let holding = keysets.iter().filter(|set| set.secrets.contains(name));
        let found = match pinned(&registered.workload, holding, name) {
            Ok(None) => Some(current),
            Ok(Some(version)) => versions::find(c, &owner, current, version)?,
            Err(_) => None,
        };
        secrets.extend(found);
    }
    Ok(Some(WorkloadContext {
        owner,
        generation: head.generation,
        bundle: head.bundle,
        owner_policies: head.policies,
        registered,
        secrets,
        keysets,
    }))
}

pub(super) fn bundle(c: &Connection, owner: &Name, digest: HexDigest) -> Result<Option<Vec<u8>>, RowError> {
    c.prepare_cached("SELECT archive FROM bundles WHERE owner = ?1 AND digest = ?2")?
        .query_row(params![owner.as_str(), digest.0.as_slice()], |row| row.get(0))
        .optional()
}

pub(super) fn bundles(c: &Connection, owner: &Name) -> Result<Vec<(HexDigest, Time)>, RowError> {
    let mut statement = c.prepare_cached(
        "SELECT digest, activated FROM bundles WHERE owner = ?1 ORDER BY activated DESC, rowid DESC",
    )?;
    let mut found = statement.query([owner.as_str()])?;
    let mut bundles = Vec::new();
    while let Some(row) = found.next()? {
        bundles.push((
            rows::bytes("a bundle's digest", row, 0)?,
            Time::from_millis(row.get(1)?),
        ));
    }
    Ok(bundles)
}

pub(super) fn sealed_secrets(
    c: &Connection,
    owner: &Name,
    secrets: &[(Name, u64)],
) -> Result<Vec<Option<Vec<u8>>>, RowError> {
    let sealed = secrets
        .iter()
        .map(|(name, version)| versions::sealed(c, owner, name, *version));
    sealed.collect()
}

pub(super) fn firmware(c: &Connection, owner: &Name, name: &Name) -> Result<Option<Vec<u8>>, RowError> {
    c.prepare_cached("SELECT content FROM firmware WHERE owner = ?1 AND name = ?2")?
        .query_row([owner.as_str(), name.as_str()], |row| row.get(0))
        .optional()
}

pub(super) fn apply(
    c: &Connection,
    owner: &Name,
    generation: i64,
    changes: &Recorded<ChangeSet>,
    guarded: Option<&Guarded>,
) -> Result<Taken<()>, ApplyError> {
    let Recorded {
        what: changes,
        records,
    } = changes;
    if let Some(guarded) = guarded
        && let Some(waits) =
            proposals::second_person(c, owner, generation, guarded).map_err(StoreError::from)?
    {
        return Ok(waits);
    }
    let raised = c
        .execute(
            "UPDATE owners SET generation = generation + 1 WHERE name = ?1 AND generation = ?2",
            params![owner.as_str(), generation],
        )
        .map_err(StoreError::from)?;
    if raised != 1 {
        return Err(ApplyError::Changed);
    }
    for sealed in changes.secrets.iter().filter_map(|(_, sealed)| sealed.as_deref()) {
        if super::keys::is_retired(c, sealed).map_err(StoreError::from)? {
            return Err(ApplyError::Changed);
        }
    }
    write(c, owner.as_str(), changes).map_err(StoreError::from)?;
    // Another owner's is never written over, also where it came between.
    for registered in &changes.workloads {
        let uuid = registered.workload.uuid;
        let has: String = c
            .query_row(
                "SELECT owner FROM workloads WHERE uuid = ?1",
                [uuid.as_bytes().as_slice()],
                |row| row.get(0),
            )
            .map_err(StoreError::from)?;
        if has != owner.as_str() {
            return Err(ApplyError::Taken(uuid));
        }
    }
    if let Some(change) = &changes.trust {
        platforms::put_trust(c, owner, change).map_err(StoreError::from)?;
    }
    records
        .iter()
        .try_for_each(|record| log::append(c, record))
        .map_err(StoreError::from)?;
    Ok(Taken::Done(()))
}

fn write(c: &Connection, owner: &str, changes: &ChangeSet) -> Result<(), RowError> {
    let named = |table: &str, name: &str| {
        let sql = format!("DELETE FROM {table} WHERE owner = ?1 AND name = ?2");
        c.execute(&sql, [owner, name])
    };
    for (kind, name) in &changes.removed {
        match kind {
            Kind::Secret => {
                versions::delete(c, owner, name)?;
                named("secrets", name)?
            }
            Kind::KeySet => named("keysets", name)?,
            Kind::Firmware => named("firmware", name)?,
            Kind::SigningKey => named("signing_keys", name)?,
            Kind::Workload => {
                let uuid: Uuid = name.parse().map_err(|e| rows::damaged("a workload's UUID", e))?;
                let sql = "DELETE FROM workloads WHERE owner = ?1 AND uuid = ?2";
                c.execute(sql, params![owner, uuid.as_bytes().as_slice()])?
            }
        };
    }
    if let Some(activated) = &changes.bundle {
        revisions::activate(c, owner, activated)?;
    }
    changes
        .signing_keys
        .iter()
        .try_for_each(|key| revisions::put_key(c, owner, key))?;
    if let Some(policies) = &changes.owner_policies {
        let policies = to_json("policies", policies)?;
        c.execute(
            "UPDATE owners SET policies = ?2 WHERE name = ?1",
            [owner, &policies],
        )?;
    }
    changes
        .secrets
        .iter()
        .try_for_each(|(secret, sealed)| versions::put(c, owner, secret, sealed.as_deref()))?;
    changes
        .purged
        .iter()
        .try_for_each(|purge| versions::purge(c, owner, purge))?;
    changes.keysets.iter().try_for_each(|set| {
        let document = to_json("a key set", set)?;
        put(c, "keysets", owner, set.name.as_str(), &document)
    })?;
    changes
        .firmware
        .iter()
        .try_for_each(|(info, content)| put_firmware(c, owner, info, content.as_deref()))?;
    changes
        .workloads
        .iter()
        .try_for_each(|registered| put_workload(c, owner, registered))
}

fn put(c: &Connection, table: &str, owner: &str, name: &str, document: &str) -> Result<(), RowError> {
    let sql = format!(
        "INSERT INTO {table} (owner, name, document) VALUES (?1, ?2, ?3)
         ON CONFLICT (owner, name) DO UPDATE SET document = ?3"
    );
    c.execute(&sql, [owner, name, document])?;
    Ok(())
}

fn put_firmware(
    c: &Connection,
    owner: &str,
    info: &FirmwareInfo,
    content: Option<&[u8]>,
) -> Result<(), RowError> {
    let document = to_json("a firmware", info)?;
    let Some(content) = content else {
        let sql = "UPDATE firmware SET document = ?3 WHERE owner = ?1 AND name = ?2";
        c.execute(sql, [owner, info.name.as_str(), &document])?;
        return Ok(());
    };
    c.execute(
        "INSERT INTO firmware VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (owner, name) DO UPDATE SET document = ?3, content = ?4",
        params![owner, info.name.as_str(), document, content],
    )?;
    Ok(())
}

fn put_workload(c: &Connection, owner: &str, registered: &RegisteredWorkload) -> Result<(), RowError> {
    let workload = &registered.workload;
    let document = to_json("a workload", workload)?;
    let candidates = to_json("a workload's digests", &registered.candidates)?;
    c.execute(
        "INSERT INTO workloads VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (uuid) DO UPDATE SET name = ?3, document = ?4, candidates = ?5 WHERE workloads.owner = ?2",
        params![
            workload.uuid.as_bytes().as_slice(),
            owner,
            workload.name.as_str(),
            document,
            candidates
        ],
    )?;
    c.execute(
        "INSERT INTO workload_uuids VALUES (?1, ?2, ?3) ON CONFLICT (owner, name) DO UPDATE SET uuid = ?3",
        params![owner, workload.name.as_str(), workload.uuid.as_bytes().as_slice()],
    )?;
    Ok(())
}

fn last_uuids(c: &Connection, owner: &Name) -> Result<BTreeMap<Name, Uuid>, RowError> {
    let mut statement = c.prepare_cached("SELECT name, uuid FROM workload_uuids WHERE owner = ?1")?;
    let mut found = statement.query([owner.as_str()])?;
    let mut uuids = BTreeMap::new();
    while let Some(row) = found.next()? {
        uuids.insert(
            rows::name("a workload's name", row, 0)?,
            rows::uuid("a workload's last UUID", row, 1)?,
        );
    }
    Ok(uuids)
}
