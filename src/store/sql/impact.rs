//! What decisions were about, by which those are found that something which went wrong has touched.

use std::collections::BTreeSet;

use crate::store::engine::{Connection, params};

use super::{RowError, Scope, SqlStore, StoreError, freezes, platforms, rows, versions};
use crate::audit::actor::Act;
use crate::domain::approval::Word;
use crate::domain::decision::{Decision, Outcome};
use crate::domain::freeze::{Freeze, Stop, Subject, Target};
use crate::domain::impact::{Cause, Touched};
use crate::domain::platform::{Accepted, Platform, Standing};
use crate::domain::{HexDigest, Name};
use crate::store::{FreezePage, FreezeQuery, Frozen, ImpactPage, IncidentStore, PlatformList, Taken};
use uuid::Uuid;

/// Launches in a page, at most.
const PAGE: u32 = 1000;

impl IncidentStore for SqlStore {
    fn freeze(
        &self,
        owner: Option<&Name>,
        target: &Target,
        word: &Word,
        act: &Act,
    ) -> Result<Frozen, StoreError> {
        let (owner, target, word, act) = (owner.cloned(), target.clone(), word.clone(), act.clone());
        self.write(Scope::of(owner.as_ref()), move |c| {
            freezes::freeze(c, owner.as_ref(), &target, word.clone(), &act)
        })
    }

    fn unfreeze(
        &self,
        owner: Option<&Name>,
        id: Uuid,
        word: &Word,
        act: &Act,
    ) -> Result<Taken<Freeze>, StoreError> {
        let (owner, word, act) = (owner.cloned(), word.clone(), act.clone());
        self.write(Scope::of(owner.as_ref()), move |c| {
            freezes::unfreeze(c, owner.as_ref(), id, word.clone(), &act)
        })
    }

    fn freezes(&self, owner: Option<&Name>, query: FreezeQuery) -> Result<FreezePage, StoreError> {
        self.read(|c| freezes::page(c, owner, query))
    }

    fn frozen(&self, owner: Option<&Name>, id: Uuid) -> Result<Option<Freeze>, StoreError> {
        self.read(|c| freezes::find(c, owner, id))
    }

    fn stopped(&self, subject: &Subject) -> Result<Option<Stop>, StoreError> {
        self.read(|c| freezes::stopped(c, subject))
    }

    fn platforms(
        &self,
        owner: &Name,
        after: Option<HexDigest>,
        limit: u32,
    ) -> Result<PlatformList, StoreError> {
        self.read(|c| platforms::page(c, owner, after, limit))
    }

    fn platform(&self, owner: &Name, cek: HexDigest) -> Result<Option<Platform>, StoreError> {
        self.read(|c| platforms::find(c, owner, cek))
    }

    fn judge_platform(
        &self,
        owner: &Name,
        cek: HexDigest,
        standing: Standing,
        word: &Word,
        act: &Act,
    ) -> Result<Taken<Platform>, StoreError> {
        let (owner, word, act) = (owner.clone(), word.clone(), act.clone());
        self.write(Scope::Owner(owner.clone()), move |c| {
            platforms::judge(c, &owner, cek, standing, word.clone(), &act)
        })
    }

    fn accept_platforms(
        &self,
        owner: &Name,
        accepted: Accepted,
        word: &Word,
        act: &Act,
    ) -> Result<Taken<Word>, StoreError> {
        let (owner, word, act) = (owner.clone(), word.clone(), act.clone());
        self.write(Scope::Owner(owner.clone()), move |c| {
            platforms::accept(c, &owner, accepted, &word, &act)
        })
    }

    fn impact(
        &self,
        owner: &Name,
        cause: &Cause,
        before: Option<i64>,
        limit: u32,
    ) -> Result<ImpactPage, StoreError> {
        self.read(|c| page(c, owner, cause, before, limit))
    }
}

/// Writes what a decision that was just inserted with this number is found by.
pub(super) fn note(c: &Connection, seq: i64, decision: &Decision) -> Result<(), RowError> {
    let Some(input) = decision
        .input
        .as_ref()
        .filter(|input| input.attested.launch_digest.is_some())
    else {
        return Ok(());
    };
    let prints = &input.platform.fingerprints;
    let mut subjects = BTreeSet::from([("platform", prints.cek.clone()), ("platform", prints.oca.clone())]);
    subjects.extend(
        input
            .attested
            .launch_digest
            .clone()
            .map(|digest| ("digest", digest)),
    );
    if decision.outcome == Outcome::Released {
        for secret in &decision.released {
            subjects.insert(("secret", secret.name.to_string()));
            subjects.insert(("version", versioned(&secret.name, secret.version)));
        }
        let bundles = decision.policies.iter().filter_map(|policy| policy.bundle);
        subjects.extend(bundles.map(|bundle| ("policy", bundle.to_string())));
    }
    let mut statement = c.prepare_cached("INSERT INTO decision_subjects VALUES (?1, ?2, ?3, ?4)")?;
    for (kind, value) in subjects {
        statement.execute(params![decision.owner.as_str(), kind, value, seq])?;
    }
    Ok(())
}

/// A name has no `@`.
fn versioned(name: &Name, version: u64) -> String {
    format!("{name}@{version}")
}

fn page(
    c: &Connection,
    owner: &Name,
    cause: &Cause,
    before: Option<i64>,
    limit: u32,
) -> Result<ImpactPage, RowError> {
    let limit = limit.clamp(1, PAGE);
    let before = before.unwrap_or(i64::MAX);
    let sought = match cause {
        Cause::Secret { name, version: None } => Some(("secret", name.to_string())),
        Cause::Secret {
            name,
            version: Some(version),
        } => Some(("version", versioned(name, *version))),
        Cause::Platform(fingerprint) => Some(("platform", fingerprint.to_string())),
        Cause::Digest(digest) => Some(("digest", digest.to_string())),
        Cause::Policy(bundle) => Some(("policy", bundle.to_string())),
        Cause::Workload(_) => None,
    };
    let (mut statement, key);
    let mut found = match (&sought, cause) {
        (Some((kind, value)), _) => {
            statement = c.prepare_cached(
                "SELECT d.seq, d.document FROM decision_subjects AS s JOIN decisions AS d ON d.seq = s.seq
                 WHERE s.owner = ?1 AND s.kind = ?2 AND s.value = ?3 AND s.seq < ?4
                 ORDER BY s.seq DESC LIMIT ?5",
            )?;
            statement.query(params![owner.as_str(), kind, value, before, limit + 1])?
        }
        (None, Cause::Workload(uuid)) => {
            key = uuid.as_bytes().to_vec();
            statement = c.prepare_cached(
                "SELECT seq, document FROM decisions
                 WHERE owner = ?1 AND workload = ?2 AND seq < ?3 AND outcome <> 'refused'
                 ORDER BY seq DESC LIMIT ?4",
            )?;
            statement.query(params![owner.as_str(), key, before, limit + 1])?
        }
        (None, _) => return Err(rows::damaged("a question", "it is about nothing")),
    };
    let (mut touched, mut next, mut last) = (Vec::<Touched>::new(), None, None);
    while let Some(row) = found.next()? {
        if touched.len() == usize::try_from(limit).unwrap_or(usize::MAX) {
            next = last;
            break;
        }
        last = Some(row.get(0)?);
        touched.push(rows::json::<Decision>("a decision", row, 1)?.into());
    }
    let names: BTreeSet<&Name> = touched
        .iter()
        .flat_map(|touched| &touched.secrets)
        .map(|secret| &secret.name)
        .collect();
    let in_use = versions::in_use(c, owner, &names)?;
    Ok(ImpactPage {
        touched,
        in_use,
        next,
    })
}
