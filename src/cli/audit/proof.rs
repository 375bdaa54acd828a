//! `audit proof ID`: is a record in the log, and does its proof lead to what the log signed?

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use uuid::Uuid;

use super::source::{Place, key_file};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::key::VerifierKey;
use crate::audit::proof::verify_inclusion;
use crate::audit::tree::leaf_hash;
use crate::cli::Ended;
use crate::cli::output::{self, Format};
use crate::domain::HexDigest;
use crate::http::ProofReply;

#[derive(Args)]
pub(in crate::cli) struct Proof {
    /// The record's id; of a decision, the decision's
    id: Uuid,
    #[command(flatten)]
    place: Place,
    /// The log's public key, from a place that you trust. Default: the one that the log says it has
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

impl Proof {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let source = self.place.open()?;
        let reply = source.proof(self.id)?;
        let ProofReply::Included {
            index,
            leaf,
            record,
            proof,
            checkpoint,
        } = &reply
        else {
            if !output::structured(self.output, &reply)? {
                output::line("pending: it is written, and the next checkpoint will count it")?;
            }
            return Ok(Ended::Done);
        };
        let key = match &self.key {
            Some(path) => key_file(path)?,
            None => source.key()?,
        };
        let record = record.as_ref().map(|record| record.get());
        let proved = proved(&key, *index, *leaf, record, proof, checkpoint);
        if !output::structured(self.output, &reply)? {
            match &proved {
                Ok(checkpoint) => output::line(&format!(
                    "Record  {}\nIndex   {index}\nLeaf    {leaf}\nTree    {} records, root {}\nLog     {}\n\n{}\n\n\
                     The proof leads to the checkpoint, which is signed with {}.",
                    self.id,
                    checkpoint.head().size,
                    checkpoint.head().root,
                    checkpoint.origin(),
                    record.unwrap_or("Its contents were forgotten."),
                    match self.key {
                        Some(_) => "the key that you gave",
                        None => "the key that the log says it has (give yours with --key)",
                    },
                ))?,
                Err(error) => output::line(&format!("The proof does not verify: {error:#}"))?,
            }
        }
        Ok(match proved {
            Ok(_) => Ended::Done,
            Err(_) => Ended::Denied,
        })
    }
}

fn proved(
    key: &VerifierKey,
    index: u64,
    leaf: HexDigest,
    record: Option<&str>,
    proof: &[HexDigest],
    checkpoint: &str,
) -> anyhow::Result<Checkpoint> {
    let checkpoint = Checkpoint::open(checkpoint, key).context("the checkpoint")?;
    if let Some(got) = record.map(|record| leaf_hash(record.as_bytes()))
        && got != leaf
    {
        anyhow::bail!("the record was changed: its hash is {got}, the tree has {leaf}");
    }
    verify_inclusion(checkpoint.head(), index, leaf, proof)?;
    Ok(checkpoint)
}
