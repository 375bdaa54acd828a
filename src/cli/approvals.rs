//! `owner set`: how many people an owner asks for.

use clap::Args;

use super::Ended;
use super::client::Connection;
use super::limits::waits;
use super::output::{self, Format};
use crate::http::{ApprovalsBody, ApprovalsReply};

#[derive(Args)]
#[command(
    after_help = "With 2, holds are confirmed and counts lowered by two people, each with a token of a name of its \
                        own; so is asking for 1 again. With --policies, so are bundles made active, and bound \
                        policies, workloads, key sets and signing keys registered: the first sends them, and nothing \
                        changes until another person sends the same within a day"
)]
pub(super) struct Set {
    /// How many people confirm a hold or lower a count: 1 or 2
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=2))]
    approvals_required: u8,
    /// Also for registering what decides over releases: bundles, bound policies, workloads, key sets, signing keys
    #[arg(long)]
    policies: bool,
    /// Why, for who reads the record later
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

impl Set {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let body = ApprovalsBody {
            approvals_required: self.approvals_required,
            policies: self.policies,
            reason: self.reason,
        };
        let reply: ApprovalsReply = self.connection.client()?.put("/v1/approvals", &body)?;
        if output::structured(self.output, &reply)? {
            return Ok(Ended::Done);
        }
        match &reply.proposal {
            Some(proposal) => waits(proposal)?,
            None if reply.approvals.approvals_required == 1 => output::line("One person is enough.")?,
            None if reply.approvals.policies => output::line(
                "Two people must say the same, and register the same where policies are registered.",
            )?,
            None => output::line("Two people must say the same.")?,
        }
        Ok(Ended::Done)
    }
}
