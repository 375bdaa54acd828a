//! What confirmations give beyond limits: counted for each count that was in the way, and used up one by one.
//!
//! INVARIANT: a release raises a count past its limit only together with `used` of one allowance on that count, in
//! one transaction; so no count is ever above its limit by more than was confirmed on it.

use crate::store::engine::{Connection, Optional as _, Row, params};
use uuid::Uuid;

use super::{RowError, rows};
use crate::domain::Name;
use crate::domain::decision::{CountSeen, Decision};
use crate::domain::hold::{Allowance, Guest, Hold};
use crate::domain::launch::{Binding, BindingKind};

/// What a release asks for, as holds and their confirmations know it.
pub(super) struct Asked<'a> {
    pub(super) owner: &'a Name,
    pub(super) workload: &'a [u8],
    /// The secrets' names, sorted, as JSON.
    pub(super) secrets: String,
    pub(super) guest: Guest,
}

impl<'a> Asked<'a> {
    pub(super) fn of(decision: &'a Decision) -> Result<Self, RowError> {
        let Some(input) = &decision.input else {
            return Err(rows::damaged("a release", "it has no input"));
        };
        let parse = |text: &str| text.parse().map_err(|e| rows::damaged("an attested digest", e));
        let digest = input.attested.launch_digest.as_deref().unwrap_or_default();
        Ok(Self {
            owner: &decision.owner,
            workload: decision.workload.uuid.as_bytes(),
            secrets: sorted(&decision.secrets)?,
            guest: Guest {
                launch_digest: parse(digest)?,
                cek: parse(&input.platform.fingerprints.cek)?,
            },
        })
    }
}

/// Names as a hold is found by them.
pub(super) fn sorted(secrets: &[Name]) -> Result<String, RowError> {
    let mut names = secrets.to_vec();
    names.sort();
    rows::to_json("names", &names)
}

/// The condition that an allowance is for what is asked, and something is left of it.
// INVARIANT: the last line is that of the index hold_allowances_left, to the letter.
const USABLE: &str = "owner = ?1 AND workload = ?2 AND secrets = ?3
    AND (launch_digest IS NULL OR (launch_digest = ?4 AND cek = ?5))
    AND kind = ?6 AND name = ?7 AND secret = ?8
    AND additional > used + withdrawn";

/// Writes into each count that has no room what was confirmed for this launch and is left.
pub(super) fn read(c: &Connection, asked: &Asked<'_>, seen: &mut [CountSeen]) -> Result<(), RowError> {
    let mut statement = c.prepare_cached(&format!(
        "SELECT CAST(coalesce(sum(additional - used - withdrawn), 0) AS BIGINT) FROM hold_allowances WHERE {USABLE}"
    ))?;
    for count in seen.iter_mut().filter(|count| !count.has_room()) {
        let mut found = statement.query(params![
            asked.owner.as_str(),
            asked.workload,
            asked.secrets,
            asked.guest.launch_digest.0.as_slice(),
            asked.guest.cek.0.as_slice(),
            count.binding.kind.as_str(),
            count.binding.name,
            count.secret.as_str(),
        ])?;
        count.confirmed = found
            .next()?
            .map_or(Ok(0), |row| rows::natural("an allowance", row, 0))?;
    }
    Ok(())
}

/// Uses up one for each count that has no room; the holds whose confirmations these are of.
///
/// What is for this guest alone goes before what is for any, and the older before the newer.
pub(super) fn use_up(c: &Connection, asked: &Asked<'_>, seen: &[CountSeen]) -> Result<Vec<Uuid>, RowError> {
    let mut holds = Vec::new();
    for count in seen.iter().filter(|count| !count.has_room()) {
        let used = c
            .prepare_cached(&format!(
                "UPDATE hold_allowances SET used = used + 1 WHERE rowid = (SELECT rowid FROM hold_allowances
                 WHERE {USABLE} ORDER BY launch_digest IS NULL, rowid LIMIT 1) RETURNING hold"
            ))?
            .query_row(
                params![
                    asked.owner.as_str(),
                    asked.workload,
                    asked.secrets,
                    asked.guest.launch_digest.0.as_slice(),
                    asked.guest.cek.0.as_slice(),
                    count.binding.kind.as_str(),
                    count.binding.name,
                    count.secret.as_str(),
                ],
                |row| Ok(rows::uuid("a hold's id", row, 0)),
            )
            .optional()?;
        // It was there a moment ago in this same transaction, and there is one writer.
        let hold =
            used.ok_or_else(|| rows::damaged("an allowance", "nothing is left though there was"))??;
        if !holds.contains(&hold) {
            holds.push(hold);
        }
    }
    Ok(holds)
}

/// Gives what a hold's confirmation is for.
pub(super) fn give(c: &Connection, owner: &Name, hold: &Hold) -> Result<(), RowError> {
    let Some(approval) = hold.approvals.last() else {
        return Err(rows::damaged("a hold", "it is confirmed by nobody"));
    };
    let additional = i64::try_from(approval.additional).map_err(|e| rows::damaged("an allowance", e))?;
    let secrets = sorted(&hold.secrets)?;
    for count in &hold.counts {
        c.execute(
            "INSERT INTO hold_allowances
               (hold, kind, name, secret, owner, workload, secrets, launch_digest, cek, additional)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                hold.id.as_bytes().as_slice(),
                count.binding.kind.as_str(),
                count.binding.name,
                count.secret.as_str(),
                owner.as_str(),
                hold.workload.uuid.as_bytes().as_slice(),
                secrets,
                approval
                    .guest
                    .as_ref()
                    .map(|guest| guest.launch_digest.0.as_slice()),
                approval.guest.as_ref().map(|guest| guest.cek.0.as_slice()),
                additional,
            ],
        )?;
    }
    Ok(())
}

/// Takes back what is left.
pub(super) fn withdraw(c: &Connection, hold: Uuid) -> Result<(), RowError> {
    c.execute(
        "UPDATE hold_allowances SET withdrawn = additional - used WHERE hold = ?1",
        [hold.as_bytes().as_slice()],
    )?;
    Ok(())
}

/// What a hold's confirmation gave, and what is left of it.
pub(super) fn of_hold(c: &Connection, hold: Uuid) -> Result<Vec<Allowance>, RowError> {
    let mut statement = c.prepare_cached(
        "SELECT kind, name, secret, additional, used, withdrawn FROM hold_allowances WHERE hold = ?1 ORDER BY rowid",
    )?;
    let mut found = statement.query([hold.as_bytes().as_slice()])?;
    let mut allowances = Vec::new();
    while let Some(row) = found.next()? {
        allowances.push(Allowance {
            binding: Binding {
                kind: kind(row, 0)?,
                name: row.get(1)?,
            },
            secret: rows::name("a secret's name", row, 2)?,
            additional: rows::natural("an allowance", row, 3)?,
            used: rows::natural("an allowance", row, 4)?,
            withdrawn: rows::natural("an allowance", row, 5)?,
        });
    }
    Ok(allowances)
}

/// The kind of a binding, as it is stored.
pub(super) fn kind(row: &Row, column: usize) -> Result<BindingKind, RowError> {
    let text: String = row.get(column)?;
    rows::from_json("a binding", &format!("\"{text}\""))
}
