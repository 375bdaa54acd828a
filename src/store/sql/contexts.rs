//! Workloads as they were read, for as long as their owners change nothing.
//!
//! A workload's document and its launch digests are read and parsed for each request; what is kept here was parsed from
//! what the same owner had at the same generation, and each change of an owner's objects has a generation of its own.
//! Which one it is now is read in the transaction that asks, so that nothing here is ever older than that.
//!
//! Of SQLite's database alone: where PostgreSQL fails over to a copy that lags, a generation can come a second time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use super::{RowError, objects, rows};
use crate::domain::labels::Labels;
use crate::domain::state::{KeySet, SecretInfo, WorkloadContext};
use crate::store::engine::{Connection, params};

/// Workloads that are kept, at most.
const MOST: usize = 4096;
/// What they take in memory, at most, in bytes by estimate.
const BYTES: usize = 32 << 20;

/// The kept workloads.
#[derive(Default)]
pub(in crate::store) struct Contexts(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// With what each takes.
    contexts: HashMap<Uuid, (usize, Arc<WorkloadContext>)>,
    bytes: usize,
}

impl Contexts {
    /// The workload as it is in this transaction.
    pub(super) fn workload(
        &self,
        c: &Connection,
        uuid: Uuid,
    ) -> Result<Option<Arc<WorkloadContext>>, RowError> {
        let mut statement = c.prepare_cached(
            "SELECT workloads.owner, owners.generation FROM workloads JOIN owners ON owners.name = workloads.owner
             WHERE workloads.uuid = ?1",
        )?;
        let mut found = statement.query(params![uuid.as_bytes().as_slice()])?;
        let Some(row) = found.next()? else {
            // There is none, or its owner's row is lost, which is said by whoever reads all.
            return Ok(objects::workload_context(c, uuid)?.map(Arc::new));
        };
        let (owner, generation) = (rows::name("a workload's owner", row, 0)?, row.get::<i64>(1)?);
        let known = self
            .lock()
            .contexts
            .get(&uuid)
            .map(|(_, context)| context.clone());
        if let Some(known) = known.filter(|known| known.owner == owner && known.generation == generation) {
            return Ok(Some(known));
        }
        let read = objects::workload_context(c, uuid)?.map(Arc::new);
        if let Some(context) = &read {
            self.lock().keep(uuid, context.clone());
        }
        Ok(read)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Keeps one, and lets others go where they are too many; which of them does not matter much.
    fn keep(&mut self, uuid: Uuid, context: Arc<WorkloadContext>) {
        self.forget(uuid);
        let bytes = estimate(&context);
        if bytes > BYTES {
            return;
        }
        while self.contexts.len() >= MOST || self.bytes + bytes > BYTES {
            let Some(some) = self.contexts.keys().next().copied() else {
                break;
            };
            self.forget(some);
        }
        self.bytes += bytes;
        self.contexts.insert(uuid, (bytes, context));
    }

    fn forget(&mut self, uuid: Uuid) {
        if let Some((bytes, _)) = self.contexts.remove(&uuid) {
            self.bytes -= bytes;
        }
    }
}

/// What it takes: twice its length as text, and what its parts have in any case. One that can't be written is not kept.
fn estimate(context: &WorkloadContext) -> usize {
    fn text(value: &impl serde::Serialize) -> usize {
        serde_json::to_string(value).map_or(BYTES + 1, |text| text.len())
    }
    // A name in a list is a pointer, a length and an allocation; what is in a tree has a place there, too. A label is no
    // shorter than seven bytes of text.
    const NAME: usize = 48;
    const PIN: usize = 120;
    let labels = |labels: &Labels| 17 * text(labels);
    let registered = &context.registered;
    let workload = &registered.workload;
    let names = workload.hosts.len() + workload.policies.len() + workload.secrets.len();
    let policies: usize = context
        .owner_policies
        .iter()
        .map(|policy| policy.len() + NAME)
        .sum();
    let set = |set: &KeySet| {
        text(set)
            + 100
            + NAME * (set.secrets.len() + set.policies.len())
            + PIN * set.pins.len()
            + labels(&set.labels)
    };
    let sets: usize = context.keysets.iter().map(set).sum();
    let secret =
        |secret: &SecretInfo| text(secret) + 200 + NAME * secret.policies.len() + labels(&secret.labels);
    let secrets: usize = context.secrets.iter().map(secret).sum();
    let digests: usize = registered
        .candidates
        .iter()
        .map(|digest| text(digest) + 200)
        .sum();
    2 * (text(workload) + policies + sets + secrets + digests)
        + NAME * names
        + PIN * workload.pins.len()
        + labels(&workload.labels)
        + 1000
}
