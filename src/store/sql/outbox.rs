//! What webhooks are to be told.

use crate::store::engine::{Connection, Optional as _, Params, params};
use std::time::Duration;

use uuid::Uuid;

use super::{RowError, Scope, SqlStore, StoreError, rows};
use crate::domain::hold::Hold;
use crate::domain::notice::{Notice, Opened, What};
use crate::domain::{Name, Time};
use crate::store::log::StoredCheckpoint;
use crate::store::outbox::{Message, Outbox, Told};

/// Messages that wait for one webhook, at most.
const QUEUE: i64 = 10_000;
/// How long a message is one server's to deliver.
const CLAIM: Duration = Duration::from_secs(120);

/// Tells of a hold that was opened just now, in this transaction.
pub(super) fn hold_opened(c: &Connection, owner: &Name, hold: &Hold) -> Result<(), RowError> {
    let told = c.either(
        "SELECT name FROM webhooks WHERE holds
           AND (owners IS NULL OR EXISTS (SELECT 1 FROM json_each(owners) WHERE value = ?1))",
        "SELECT name FROM webhooks WHERE holds
           AND (owners IS NULL OR ?1 IN (SELECT json_array_elements_text(CAST(owners AS JSON))))",
    );
    for webhook in names(c, told, [owner.as_str()])? {
        let what = What::HoldOpened(Opened::of(owner, hold));
        insert(c, &webhook, "hold", what, hold.created)?;
        let dropped = c
            .prepare_cached(
                "DELETE FROM webhook_outbox WHERE webhook = ?1 AND seq <= (
                   SELECT seq FROM webhook_outbox WHERE webhook = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
            )?
            .execute(params![webhook, QUEUE])?;
        if dropped > 0 {
            log::warn!("the webhook {webhook} has {QUEUE} calls waiting: the oldest is given up");
        }
    }
    Ok(())
}

/// Tells of a checkpoint that was signed just now, in this transaction. One that still waits is replaced.
pub(super) fn checkpoint_signed(
    c: &Connection,
    checkpoint: &StoredCheckpoint,
    now: Time,
) -> Result<(), RowError> {
    for webhook in names(c, "SELECT name FROM webhooks WHERE checkpoints", params![])? {
        let what = What::CheckpointSigned {
            size: checkpoint.size,
            checkpoint: checkpoint.note.clone(),
        };
        let replaced = c
            .prepare_cached(c.either(
                "UPDATE webhook_outbox SET id = ?2, body = ?3, created = ?4
                 WHERE webhook = ?1 AND event = 'checkpoint'",
                // The one that is replaced may be another server's for a while; this is anybody's.
                "UPDATE webhook_outbox SET id = ?2, body = ?3, created = ?4, due = ?4
                 WHERE webhook = ?1 AND event = 'checkpoint'",
            ))?
            .execute(params![
                webhook,
                Uuid::new_v4().as_bytes().as_slice(),
                body(what.clone(), now)?,
                now.millis()
            ])?;
        if replaced == 0 {
            insert(c, &webhook, "checkpoint", what, now)?;
        }
    }
    Ok(())
}

/// The webhooks that a question finds.
fn names(c: &Connection, sql: &str, params: impl Params) -> Result<Vec<String>, RowError> {
    let mut statement = c.prepare_cached(sql)?;
    let mut found = statement.query(params)?;
    let mut names = Vec::new();
    while let Some(row) = found.next()? {
        names.push(row.get(0)?);
    }
    Ok(names)
}

fn insert(c: &Connection, webhook: &str, event: &str, what: What, now: Time) -> Result<(), RowError> {
    c.prepare_cached(
        "INSERT INTO webhook_outbox (id, webhook, event, body, created, due) VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
    )?
    .execute(params![
        Uuid::new_v4().as_bytes().as_slice(),
        webhook,
        event,
        body(what, now)?,
        now.millis()
    ])?;
    Ok(())
}

fn body(what: What, timestamp: Time) -> Result<String, RowError> {
    rows::to_json("a call to a webhook", &Notice { timestamp, what })
}

fn set(c: &Connection, webhooks: &[Told]) -> Result<(), RowError> {
    c.execute("DELETE FROM webhooks", params![])?;
    for told in webhooks {
        let owners = told.owners.as_ref();
        let owners = owners.map(|owners| rows::to_json("owners", owners)).transpose()?;
        c.execute(
            "INSERT INTO webhooks (name, holds, checkpoints, owners) VALUES (?1, ?2, ?3, ?4)",
            params![told.name, told.holds, told.checkpoints, owners],
        )?;
    }
    c.execute(
        "DELETE FROM webhook_outbox WHERE webhook NOT IN (SELECT name FROM webhooks)",
        params![],
    )?;
    Ok(())
}

fn next(c: &Connection, webhook: &str, now: Time) -> Result<Option<Message>, RowError> {
    let found = c
        .prepare_cached(
            "SELECT id, body, tries FROM webhook_outbox WHERE webhook = ?1 AND due <= ?2 ORDER BY due, seq LIMIT 1",
        )?
        .query_row(params![webhook, now.millis()], |row| {
            Ok((rows::uuid("a call's id", row, 0), row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((id, body, tries)) = found else {
        return Ok(None);
    };
    Ok(Some(Message { id: id?, body, tries }))
}

/// Takes the next message for a while, so that no other server delivers it beside this one. Who dies with it lets others
/// have it then.
fn claim(c: &Connection, webhook: &str, now: Time) -> Result<Option<Message>, RowError> {
    let mut statement = c.prepare_cached(
        "UPDATE webhook_outbox SET due = ?3 WHERE seq = (
           SELECT seq FROM webhook_outbox WHERE webhook = ?1 AND due <= ?2 ORDER BY due, seq LIMIT 1
           FOR UPDATE SKIP LOCKED) RETURNING id, body, tries",
    )?;
    let mut found = statement.query(params![webhook, now.millis(), now.after(CLAIM).millis()])?;
    let Some(row) = found.next()? else { return Ok(None) };
    Ok(Some(Message {
        id: rows::uuid("a call's id", row, 0)?,
        body: row.get(1)?,
        tries: row.get(2)?,
    }))
}

impl Outbox for SqlStore {
    fn set_webhooks(&self, webhooks: &[Told]) -> Result<(), StoreError> {
        let webhooks = webhooks.to_vec();
        self.write(Scope::Alone, move |c| set(c, &webhooks))
    }

    fn next_message(&self, webhook: &str, now: Time) -> Result<Option<Message>, StoreError> {
        if self.sqlite().is_some() {
            return self.read(|c| next(c, webhook, now));
        }
        let webhook = webhook.to_owned();
        self.write(Scope::Free, move |c| claim(c, &webhook, now))
    }

    fn forget_message(&self, id: Uuid) -> Result<(), StoreError> {
        self.write(Scope::Free, move |c| {
            c.prepare_cached("DELETE FROM webhook_outbox WHERE id = ?1")?
                .execute([id.as_bytes().as_slice()])?;
            Ok(())
        })
    }

    fn delay_message(&self, id: Uuid, due: Time) -> Result<(), StoreError> {
        self.write(Scope::Free, move |c| {
            c.prepare_cached("UPDATE webhook_outbox SET tries = tries + 1, due = ?2 WHERE id = ?1")?
                .execute(params![id.as_bytes().as_slice(), due.millis()])?;
            Ok(())
        })
    }
}
