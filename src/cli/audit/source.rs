//! Where the log is read: from a server, as far as its owner may see it, or whole from a data folder.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::log_key;
use crate::audit::key::VerifierKey;
use crate::cli::client::{Client, OptionalConnection, from};
use crate::cli::database;
use crate::cli::output::Misused;
use crate::domain::decision::Decision;
use crate::http::{
    CheckpointList, DecisionList, EntryList, EntryView, KeptCheckpoint, ProofReply, SignedCheckpoint,
};
use crate::store::SqlStore;
use crate::store::{AuditLog as _, DecisionQuery, Store as _, Tokens as _};

/// Records and checkpoints that are read at once.
const PAGE: u32 = 1000;

/// Which log.
#[derive(Args)]
pub(super) struct Place {
    #[command(flatten)]
    connection: OptionalConnection,
    /// Read the database in this data folder, with the records of every owner; the server may be running
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    data_dir: Option<PathBuf>,
}

/// A log that can be read.
pub(in crate::cli) enum Source {
    Server(Client),
    Folder(SqlStore),
}

impl Place {
    pub(super) fn open(&self) -> anyhow::Result<Source> {
        Ok(match &self.data_dir {
            Some(folder) => Source::Folder(database::open(folder)?),
            None if !self.connection.has_token() => bail!(Misused(
                "name a server's token with --token-file, or a data folder with --data-dir".to_owned()
            )),
            None => Source::Server(self.connection.client()?),
        })
    }
}

impl Source {
    /// The newest checkpoint, with the key that the log says it has.
    pub(super) fn checkpoint(&self) -> anyhow::Result<SignedCheckpoint> {
        match self {
            Self::Server(client) => client.get("/v1/audit/checkpoint"),
            Self::Folder(store) => {
                let newest = store.log_checkpoint()?;
                let newest =
                    newest.context("there is no checkpoint yet: the server signs one when it starts")?;
                Ok(SignedCheckpoint {
                    size: newest.size,
                    checkpoint: newest.note,
                    key: log_key::public(store)?.to_string(),
                })
            }
        }
    }

    /// The key that the log says it has.
    pub(in crate::cli) fn key(&self) -> anyhow::Result<VerifierKey> {
        match self {
            Self::Server(_) => Ok(self.checkpoint()?.key.parse()?),
            Self::Folder(store) => log_key::public(store),
        }
    }

    /// Records from this index on, a page of them.
    pub(super) fn entries(&self, start: u64) -> anyhow::Result<Vec<EntryView>> {
        match self {
            Self::Server(client) => {
                let list: EntryList = client.get(&format!("/v1/audit/entries?start={start}&limit={PAGE}"))?;
                Ok(list.items)
            }
            Self::Folder(store) => {
                let found = store.log_entries(start, PAGE)?.into_iter();
                let view = found.map(|entry| {
                    Ok(EntryView {
                        index: entry.index,
                        leaf: entry.leaf,
                        record: entry.record.map(raw).transpose()?,
                    })
                });
                view.collect()
            }
        }
    }

    /// Checkpoints of trees larger than this, a page of them.
    pub(super) fn checkpoints(&self, after: u64) -> anyhow::Result<Vec<KeptCheckpoint>> {
        match self {
            Self::Server(client) => {
                let list: CheckpointList = client.get(&format!("/v1/audit/checkpoints?after={after}"))?;
                Ok(list.items)
            }
            Self::Folder(store) => {
                let found = store.log_checkpoints(after, PAGE)?.into_iter();
                let kept = found.map(|found| KeptCheckpoint {
                    size: found.size,
                    checkpoint: found.note,
                });
                Ok(kept.collect())
            }
        }
    }

    /// Every decision, newest first; of a data folder, one owner's after the other's.
    pub(super) fn decisions(
        &self,
        sink: &mut dyn FnMut(Decision) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Server(client) => pages(sink, |cursor| {
                let path = from(&format!("/v1/decisions?limit={PAGE}"), cursor.as_ref());
                let list: DecisionList = client.get(&path)?;
                Ok((list.items, list.next))
            }),
            Self::Folder(store) => store.owners()?.iter().try_for_each(|owner| {
                pages(sink, |before| {
                    let query = DecisionQuery {
                        before,
                        limit: PAGE,
                        ..DecisionQuery::default()
                    };
                    let page = store.decisions(owner, &query)?;
                    Ok((page.decisions, page.next))
                })
            }),
        }
    }

    pub(super) fn proof(&self, id: Uuid) -> anyhow::Result<ProofReply> {
        let store = match self {
            Self::Server(client) => return client.get(&format!("/v1/audit/proof/{id}")),
            Self::Folder(store) => store,
        };
        let place = store.log_place(id)?;
        let place = place.with_context(|| format!("the audit log has no record {id}"))?;
        let (leaf, record) = (place.leaf, place.record.map(raw).transpose()?);
        match (place.index, store.log_checkpoint()?) {
            (Some(index), Some(checkpoint)) if index < checkpoint.size => Ok(ProofReply::Included {
                index,
                leaf,
                record,
                proof: store.log_inclusion(index, checkpoint.size)?,
                checkpoint: checkpoint.note,
            }),
            _ => Ok(ProofReply::Pending { leaf, record }),
        }
    }
}

fn pages<C>(
    sink: &mut dyn FnMut(Decision) -> anyhow::Result<()>,
    page: impl Fn(Option<C>) -> anyhow::Result<(Vec<Decision>, Option<C>)>,
) -> anyhow::Result<()> {
    let mut cursor = None;
    loop {
        let (decisions, next) = page(cursor)?;
        decisions.into_iter().try_for_each(&mut *sink)?;
        match next {
            Some(_) => cursor = next,
            None => return Ok(()),
        }
    }
}

fn raw(record: String) -> anyhow::Result<Box<RawValue>> {
    RawValue::from_string(record).context("a record of the audit log is damaged")
}

/// A verifier key from a file, as `audit key` prints it.
pub(super) fn key_file(path: &Path) -> anyhow::Result<VerifierKey> {
    let what = || format!("key {}", path.display());
    let text = std::fs::read_to_string(path).with_context(what)?;
    text.trim().parse().with_context(what)
}
