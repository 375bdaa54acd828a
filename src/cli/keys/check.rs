//! `keys check`: everything that is sealed is opened, and counted under its key.

use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::super::Ended;
use super::super::output::{self, Format};
use super::rotate::Damaged;
use super::{Folder, recorded, sealer};
use crate::domain::Time;
use crate::domain::sealed::{KeyId, KeyState, SealedAt};
use crate::sealing::{Place, SealError, Sealer, sealed_under};
use crate::store::SqlStore;
use crate::store::keys::{Cursor, Keys as _, SealedValue};

/// Values that are read at once.
const PAGE: u32 = 256;

#[derive(Args)]
#[command(after_help = "Exit code 1 when something does not open. No value is shown.")]
pub(in crate::cli) struct Check {
    #[command(flatten)]
    folder: Folder,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Serialize)]
struct Checked {
    keys: Vec<CheckedKey>,
    damaged: Vec<Damaged>,
}

#[derive(Serialize)]
struct CheckedKey {
    id: KeyId,
    state: KeyState,
    location: String,
    created: Time,
    retired: Option<Time>,
    secrets: u64,
    launch_keys: u64,
    answers: u64,
    connection_keys: u64,
    audit_log_keys: u64,
}

impl CheckedKey {
    fn count(&mut self, at: &SealedAt) {
        *match at {
            SealedAt::Secret { .. } => &mut self.secrets,
            SealedAt::LaunchKeys { .. } => &mut self.launch_keys,
            SealedAt::Answer { .. } => &mut self.answers,
            SealedAt::ConnectionKey { .. } => &mut self.connection_keys,
            SealedAt::AuditLogKey => &mut self.audit_log_keys,
        } += 1;
    }
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let folder = self.folder.path();
        let store = Arc::new(self.folder.database()?);
        let sealer = sealer(&store, folder, self.folder.configured()?.as_ref())?;
        let keys = store.sealing_keys()?.into_iter().map(|key| CheckedKey {
            id: key.id,
            state: key.state,
            location: recorded(folder, &key).to_string(),
            created: key.created,
            retired: key.retired,
            secrets: 0,
            launch_keys: 0,
            answers: 0,
            connection_keys: 0,
            audit_log_keys: 0,
        });
        let mut keys: Vec<CheckedKey> = keys.collect();
        let damaged = opened(&store, &sealer, |value| {
            let key = sealed_under(&value.sealed);
            if let Some(key) = key.and_then(|id| keys.iter_mut().find(|key| key.id == id)) {
                key.count(&value.at);
            }
        })?;
        let checked = Checked { keys, damaged };
        self.tell(&checked)?;
        Ok(if checked.damaged.is_empty() {
            Ended::Done
        } else {
            Ended::Failed
        })
    }

    fn tell(&self, checked: &Checked) -> anyhow::Result<()> {
        if output::structured(self.output, checked)? {
            return Ok(());
        }
        let mut table = output::table(&[
            "key",
            "state",
            "secrets",
            "launch keys",
            "answers",
            "connections",
            "log key",
            "where",
        ]);
        for key in &checked.keys {
            table.add_row([
                key.id.to_string(),
                key.state.as_str().to_owned(),
                key.secrets.to_string(),
                key.launch_keys.to_string(),
                key.answers.to_string(),
                key.connection_keys.to_string(),
                key.audit_log_keys.to_string(),
                key.location.clone(),
            ]);
        }
        output::line(&table.trim_fmt())?;
        for Damaged { value, why } in &checked.damaged {
            output::line(&format!("Damaged: {value}: {why}"))?;
        }
        Ok(())
    }
}

/// Opens everything that is sealed, each value after it was shown to `each`; what does not open.
///
/// # Errors
/// When the store or a key is not to be had, whatever the values are like.
pub(in crate::cli) fn opened(
    store: &SqlStore,
    sealer: &Sealer,
    mut each: impl FnMut(&SealedValue),
) -> anyhow::Result<Vec<Damaged>> {
    let (mut damaged, mut after): (Vec<Damaged>, Cursor) = (Vec::new(), (0, 0));
    loop {
        let values = store.sealed_values(after, None, PAGE)?;
        let Some(last) = values.last() else {
            return Ok(damaged);
        };
        after = last.cursor;
        for value in &values {
            each(value);
            if let Err(error) = opens(store, sealer, value) {
                if !error.is_of_the_value() {
                    return Err(error.into());
                }
                damaged.push(Damaged {
                    value: value.at.to_string(),
                    why: error.to_string(),
                });
            }
        }
    }
}

/// Opens a value; one whose key was retired since it was read is read again.
fn opens(store: &SqlStore, sealer: &Sealer, value: &SealedValue) -> Result<(), SealError> {
    let opened = sealer.open(Place::from(&value.at), &value.sealed);
    let Err(SealError::Retired(id)) = opened else {
        return opened.map(drop);
    };
    let (place, row) = value.cursor;
    match store.sealed_values((place, row - 1), None, 1) {
        Ok(now) => match now.first() {
            Some(now) if now.at == value.at => sealer.open(Place::from(&now.at), &now.sealed).map(drop),
            // It is gone, as launches go.
            _ => Ok(()),
        },
        Err(_) => Err(SealError::Retired(id)),
    }
}
