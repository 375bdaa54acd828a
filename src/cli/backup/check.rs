//! Is a copy of the database whole? Its pages, its audit log from the first record on, and every sealed value.

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::manifest::{Log, Manifest};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::tree::{Frontier, leaf_hash};
use crate::cli::audit::log_key;
use crate::domain::HexDigest;
use crate::sealing::{self, Sealer};
use crate::store::AuditLog as _;
use crate::store::SqlStore;
use crate::store::keys::{Cursor, Keys as _};

/// Records and checkpoints that are read at once.
const PAGE: u32 = 1000;

/// What was looked at and found to be as it should.
#[derive(Serialize)]
pub(super) struct Checked {
    pub(super) records: u64,
    pub(super) bare: u64,
    pub(super) checkpoints: u64,
    pub(super) root: HexDigest,
    /// How many sealed values opened; none: there was no key file to open them with.
    pub(super) opened: Option<u64>,
}

/// Sealed values that are read at once.
const SEALED_PAGE: u32 = 256;

/// Checks a copy against what the backup says of it.
pub(super) fn copy(
    store: &SqlStore,
    manifest: &Manifest,
    sealer: Option<&Sealer>,
) -> anyhow::Result<Checked> {
    let faults = store.faults()?;
    if !faults.is_empty() {
        bail!("the database in the backup is damaged: {}", faults.join("; "));
    }
    let log = Log::of(store)?;
    if (log.size, log.root) != (manifest.audit.size, manifest.audit.root)
        || log.checkpoint != manifest.audit.checkpoint
    {
        bail!("the audit log in the backup is not the one that its manifest tells of");
    }
    let (bare, checkpoints) = log_of(store, &log)?;
    let opened = sealer.map(|sealer| values(store, sealer)).transpose()?;
    Ok(Checked {
        records: log.size,
        bare,
        checkpoints,
        root: log.root,
        opened,
    })
}

/// Computes the tree anew from the records, and holds it against the head and every checkpoint; how many records are
/// there as their hashes only, and how many checkpoints there are.
pub(in crate::cli) fn log_of(store: &SqlStore, log: &Log) -> anyhow::Result<(u64, u64)> {
    let (mut tree, mut bare) = (Frontier::default(), 0);
    let mut checkpoints = Checkpoints::new(store)?;
    checkpoints.compare(&tree)?;
    while tree.size() < log.size {
        let page = store.log_entries(tree.size(), PAGE)?;
        if page.is_empty() {
            bail!(
                "the audit log has no record {} though its head counts {}",
                tree.size(),
                log.size
            );
        }
        for entry in page {
            let expected = tree.size();
            if entry.index != expected {
                bail!("record {expected} of the audit log is missing");
            }
            match &entry.record {
                Some(record) if leaf_hash(record.as_bytes()) != entry.leaf => {
                    bail!("record {expected} of the audit log was changed: it does not have its hash");
                }
                Some(_) => {}
                None => bare += 1,
            }
            tree.push(entry.leaf)?;
            checkpoints.compare(&tree)?;
        }
    }
    if tree.root() != log.root {
        bail!(
            "the audit log's records have the root {}, its head says {}",
            tree.root(),
            log.root
        );
    }
    // What proofs are made of.
    let stored = store.log_root(log.size)?;
    if stored != log.root {
        bail!(
            "the audit log's stored hashes have the root {stored}, its head says {}",
            log.root
        );
    }
    let count = checkpoints.finish(log.size)?;
    Ok((bare, count))
}

/// The stored checkpoints in their order, each verified with the log's key.
struct Checkpoints<'a> {
    store: &'a SqlStore,
    key: crate::audit::key::VerifierKey,
    page: std::vec::IntoIter<Checkpoint>,
    next: Option<Checkpoint>,
    seen: u64,
    count: u64,
}

impl<'a> Checkpoints<'a> {
    fn new(store: &'a SqlStore) -> anyhow::Result<Self> {
        let mut new = Self {
            store,
            key: log_key::public(store)?,
            page: Vec::new().into_iter(),
            next: None,
            seen: 0,
            count: 0,
        };
        new.advance()?;
        Ok(new)
    }

    fn advance(&mut self) -> anyhow::Result<()> {
        self.next = self.page.next();
        if self.next.is_none() {
            let page = self.store.log_checkpoints(self.seen, PAGE)?.into_iter();
            let open = |kept: crate::store::log::StoredCheckpoint| {
                Checkpoint::open(&kept.note, &self.key)
                    .with_context(|| format!("the checkpoint of {} records", kept.size))
            };
            self.page = page.map(open).collect::<anyhow::Result<Vec<_>>>()?.into_iter();
            self.next = self.page.next();
        }
        if let Some(next) = &self.next {
            self.seen = next.head().size;
        }
        Ok(())
    }

    /// Holds the tree against the checkpoint of its size, if there is one.
    fn compare(&mut self, tree: &Frontier) -> anyhow::Result<()> {
        let Some(head) = self.next.as_ref().map(Checkpoint::head) else {
            return Ok(());
        };
        if head.size != tree.size() {
            return Ok(());
        }
        if head.root != tree.root() {
            bail!(
                "the first {} records of the audit log are not those that were signed: with them the root is {}, the signed one is {}",
                head.size,
                tree.root(),
                head.root
            );
        }
        self.count += 1;
        self.advance()
    }

    /// How many there were, once the tree has its size.
    fn finish(self, size: u64) -> anyhow::Result<u64> {
        if let Some(next) = &self.next {
            bail!(
                "a checkpoint of {} records was signed, the audit log has {size}",
                next.head().size
            );
        }
        Ok(self.count)
    }
}

/// Opens every sealed value; how many there are.
fn values(store: &SqlStore, sealer: &Sealer) -> anyhow::Result<u64> {
    let (mut opened, mut after): (u64, Cursor) = (0, (0, 0));
    loop {
        let page = store.sealed_values(after, None, SEALED_PAGE)?;
        let Some(last) = page.last() else { break };
        after = last.cursor;
        for value in &page {
            let opens = sealer.open(sealing::Place::from(&value.at), &value.sealed);
            opens.with_context(|| format!("{} does not open", value.at))?;
            opened += 1;
        }
    }
    if let Some(key) = log_key::load(store, sealer)? {
        let public = log_key::public(store)?;
        if key.verifier().to_string() != public.to_string() {
            bail!("the audit log's public key is not that of the key that signs it");
        }
    }
    Ok(opened)
}
