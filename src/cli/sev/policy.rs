//! The SEV policy of a guest, and what the toolbox does not lend a hand to.

use clap::Args;

use super::number;
use crate::cli::output::Misused;
use crate::sev::SevPolicy;

#[derive(Args)]
pub(super) struct GuestPolicy {
    /// The guest's SEV policy, decimal or 0x…
    #[arg(long, value_name = "N", value_parser = number::sev_policy)]
    pub(super) policy: SevPolicy,
    /// Make keys or wrap secrets under a policy without NODBG or NOKS: the host can then read the guest's memory
    #[arg(long)]
    danger_weak_policy: bool,
}

impl GuestPolicy {
    /// Whether keys and secrets may be given to a guest under this policy.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let bits = self.policy.bits();
        let reserved = self.policy.reserved_bits();
        if reserved != 0 {
            let why = format!("--policy {bits:#x}: bits 15 to 6 are reserved, the PSP refuses {reserved:#x}");
            return Err(Misused(why).into());
        }
        let missing = match (self.policy.no_debug(), self.policy.no_key_sharing()) {
            (true, true) => return Ok(()),
            _ if self.danger_weak_policy => return Ok(()),
            (false, true) => {
                "NODBG (bit 0), so that the host may read the guest's memory through debug commands"
            }
            (true, false) => {
                "NOKS (bit 1), so that the host may start a guest of its own with the same memory key"
            }
            (false, false) => "NODBG and NOKS (bits 0 and 1), so that the host may read the guest's memory",
        };
        let why = format!("--policy {bits:#x} lacks {missing}; say --danger-weak-policy if that is meant");
        Err(Misused(why).into())
    }
}
