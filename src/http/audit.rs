//! The owner API's audit log: records, checkpoints, proofs.
//!
//! An owner is shown the records about the owner's objects, an administrator those of the server itself. Of all others there are the leaf hashes, without which
//! the tree could not be verified; they say nothing of what they are of, as every record has a random id in it.

use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::State;
use super::answer::uuid;
use super::owner::{nothing, read_by, resource};
use super::page::{self, Cursor};
use super::problem::{Kind, Problem};
use crate::domain::token::Identity;
use crate::domain::{HexDigest, Name};
use crate::release::Service;
use crate::store::StoreError;
use crate::store::log::{LogEntry, StoredCheckpoint};

/// Records in a page where nothing else is said, and at most.
const PAGE: u32 = 1000;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(resource("/audit/entries").route(web::get().to(entries)))
        .service(resource("/audit/checkpoint").route(web::get().to(checkpoint)))
        .service(resource("/audit/checkpoints").route(web::get().to(checkpoints)))
        .service(resource("/audit/consistency").route(web::get().to(consistency)))
        .service(resource("/audit/proof/{id}").route(web::get().to(proof)));
}

/// Records of the audit log, in its order.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct EntryList {
    /// The records from `start` on.
    pub items: Vec<EntryView>,
    /// How many there are in all at this moment.
    pub size: u64,
    /// `cursor` of the next page; null: there is none.
    #[serde(default)]
    pub next: Option<Cursor>,
}

/// A record in its place.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct EntryView {
    /// Its index in the tree.
    pub index: u64,
    /// Its leaf hash.
    pub leaf: HexDigest,
    /// The record. Its bytes exactly as they stand here are the leaf. Left out: it is another owner's or the server's,
    /// or was forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::audit::record::AuditRecord>")]
    pub record: Option<Box<RawValue>>,
}

/// The newest checkpoint.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct SignedCheckpoint {
    /// Size of the tree.
    pub size: u64,
    /// The signed note, as C2SP tlog-checkpoint has it.
    pub checkpoint: String,
    /// The log's verifier key. Whoever verifies should have it from elsewhere.
    pub key: String,
}

/// Checkpoints, smallest first.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct CheckpointList {
    /// The checkpoints.
    pub items: Vec<KeptCheckpoint>,
    /// `cursor` of the next page; null: there is none.
    pub next: Option<Cursor>,
}

/// A checkpoint in the list of all.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct KeptCheckpoint {
    /// Size of the tree.
    pub size: u64,
    /// The signed note.
    pub checkpoint: String,
}

/// Where a record is.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum ProofReply {
    /// It is written; no checkpoint counts it yet.
    Pending {
        /// Its leaf hash.
        leaf: HexDigest,
        /// The record.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<crate::audit::record::AuditRecord>")]
        record: Option<Box<RawValue>>,
    },
    /// It is in the tree of the checkpoint.
    Included {
        /// Its index.
        index: u64,
        /// Its leaf hash.
        leaf: HexDigest,
        /// The record.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<crate::audit::record::AuditRecord>")]
        record: Option<Box<RawValue>>,
        /// The inclusion proof of RFC 9162, lowest first.
        proof: Vec<HexDigest>,
        /// The signed note.
        checkpoint: String,
    },
}

/// Proves that one tree is the beginning of another.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct ConsistencyReply {
    /// Size of the earlier tree.
    pub from: u64,
    /// Size of the later tree.
    pub to: u64,
    /// The consistency proof of RFC 9162.
    pub proof: Vec<HexDigest>,
}

/// What the query of `GET /v1/audit/entries` may have.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EntryParameters {
    /// `next` of the page before.
    cursor: Option<Cursor>,
    /// Index of the first record; 0 where neither is said.
    #[serde(default)]
    start: u64,
    /// Records on the page at most; 1000 where it is left out.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
}

async fn entries(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    const LIST: &str = "entries";
    let parameters = page::query::<EntryParameters>(request.query_string(), "`cursor`, `start` and `limit`");
    read_by(state, request, move |service, identity| {
        let asked = parameters?;
        let limit = page::limit(asked.limit, PAGE)?;
        let cursor = asked.cursor.map(|cursor| cursor.number(LIST)).transpose()?;
        let size = service.store().log_head()?.size;
        let found = service
            .store()
            .log_entries(cursor.unwrap_or(asked.start), limit)?;
        let after = found.last().map(|last| last.index + 1);
        let items = found.into_iter().map(|entry| view(entry, identity));
        Ok(EntryList {
            items: items.collect::<Result<_, _>>()?,
            size,
            next: after
                .filter(|after| *after < size)
                .map(|after| Cursor::after(LIST, after)),
        })
    })
    .await
}

fn view(entry: LogEntry, identity: &Identity) -> Result<EntryView, Problem> {
    let own = entry.owner == identity.owner;
    Ok(EntryView {
        index: entry.index,
        leaf: entry.leaf,
        record: entry.record.filter(|_| own).map(raw).transpose()?,
    })
}

/// A record's bytes as they are.
fn raw(record: String) -> Result<Box<RawValue>, Problem> {
    RawValue::from_string(record).map_err(|e| {
        let (what, why) = ("a record of the audit log", e.to_string());
        StoreError::Damaged { what, why }.into()
    })
}

async fn checkpoint(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    read_by(state, request, |service, _| {
        let StoredCheckpoint { size, note } = newest(service)?.ok_or_else(none_yet)?;
        let key = service.log_key().ok_or_else(none_yet)?;
        Ok(SignedCheckpoint {
            size,
            checkpoint: note,
            key: key.to_string(),
        })
    })
    .await
}

fn newest(service: &Service) -> Result<Option<StoredCheckpoint>, Problem> {
    Ok(service.store().log_checkpoint()?)
}

fn none_yet() -> Problem {
    Problem::new(
        Kind::NotFound,
        "there is no checkpoint yet; one is made within seconds",
    )
}

/// What the query of `GET /v1/audit/checkpoints` may have.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckpointParameters {
    /// `next` of the page before.
    cursor: Option<Cursor>,
    /// Of trees larger than this.
    #[serde(default)]
    after: u64,
    /// Checkpoints on the page at most; 1000 where it is left out.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
}

async fn checkpoints(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    const LIST: &str = "checkpoints";
    let may = "`cursor`, `after` and `limit`";
    let parameters = page::query::<CheckpointParameters>(request.query_string(), may);
    read_by(state, request, move |service, _| {
        let asked = parameters?;
        let limit = page::limit(asked.limit, PAGE)?;
        let cursor = asked.cursor.map(|cursor| cursor.number(LIST)).transpose()?;
        let found = service
            .store()
            .log_checkpoints(cursor.unwrap_or(asked.after), limit)?;
        let full = found.len() == limit as usize;
        let last = found.last().filter(|_| full);
        let next = last.map(|last| Cursor::after(LIST, last.size));
        let items = found.into_iter().map(|found| KeptCheckpoint {
            size: found.size,
            checkpoint: found.note,
        });
        Ok(CheckpointList {
            items: items.collect(),
            next,
        })
    })
    .await
}

/// What the query of `GET /v1/audit/consistency` has.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConsistencyParameters {
    /// Size of the earlier tree.
    from: u64,
    /// Size of the later tree.
    to: u64,
}

async fn consistency(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    let parameters = page::query::<ConsistencyParameters>(request.query_string(), "`from` and `to`, numbers");
    read_by(state, request, move |service, _| {
        let ConsistencyParameters { from, to } = parameters?;
        let size = service.store().log_head()?.size;
        if from > to || to > size {
            let why = format!("`from` is at most `to`, and `to` at most {size}, the log's size now");
            return Err(Problem::new(Kind::Malformed, why));
        }
        let proof = service.store().log_consistency(from, to)?;
        Ok(ConsistencyReply { from, to, proof })
    })
    .await
}

async fn proof(path: web::Path<String>, state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    read_by(state, request, move |service, identity| {
        proved(service, identity.owner.as_ref(), uuid(&path)?)
    })
    .await
}

fn proved(service: &Service, owner: Option<&Name>, id: Uuid) -> Result<ProofReply, Problem> {
    let place = service.store().log_place(id)?;
    // Another owner's does not exist.
    let place = place.filter(|place| place.owner.as_ref() == owner);
    let place = place.ok_or_else(nothing)?;
    let (leaf, record) = (place.leaf, place.record.map(raw).transpose()?);
    match (place.index, newest(service)?) {
        (Some(index), Some(checkpoint)) if index < checkpoint.size => Ok(ProofReply::Included {
            index,
            leaf,
            record,
            proof: service.store().log_inclusion(index, checkpoint.size)?,
            checkpoint: checkpoint.note,
        }),
        _ => Ok(ProofReply::Pending { leaf, record }),
    }
}
