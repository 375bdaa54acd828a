//! What is always denied, whatever a policy says.
//!
//! A floor under owners' policies: things that make the proof itself worthless. Each failed rule is a
//! sentence for the decision.

use crate::domain::workload::Workload;
use crate::sev::authority::Product;
use crate::sev::measurement::AttestedLaunch;
use crate::sev::policy::{Scheme, SevPolicy};

/// The first API whose packet MAC covers the measurement, and so binds a packet to one guest.
pub const MIN_API: (u8, u8) = (0, 17);

/// What is known when a launch is asked for: its SEV policy and the technology.
#[must_use]
pub fn at_launch(workload: &Workload, policy: SevPolicy) -> Vec<String> {
    let mut failed = Vec::new();
    let bits = policy.bits();
    if !workload.danger_weak_policy {
        if !policy.no_debug() {
            failed.push(format!(
                "SEV policy {bits:#06x} lets the host read the guest's memory (NODBG is not set)"
            ));
        }
        if !policy.no_key_sharing() {
            failed.push(format!(
                "SEV policy {bits:#06x} lets the host start guests that share the memory key (NOKS is not set)"
            ));
        }
    }
    if policy.reserved_bits() != 0 {
        failed.push(format!("SEV policy {bits:#06x} has reserved bits set (15:6)"));
    }
    let scheme = workload.scheme;
    if policy.es() != (scheme == Scheme::AmdSevEs) {
        let is = if policy.es() {
            "asks for"
        } else {
            "does not ask for"
        };
        failed.push(format!(
            "SEV policy {bits:#06x} {is} SEV-ES, but the workload's scheme is {scheme}"
        ));
    }
    failed
}

/// What is known when a release is asked for.
#[must_use]
pub fn at_release(workload: &Workload, attested: &AttestedLaunch, product: Option<Product>) -> Vec<String> {
    let mut failed = at_launch(workload, attested.policy());
    let build = attested.build();
    if (build.api_major, build.api_minor) < MIN_API {
        failed.push(format!(
            "attested API {}.{} is below {}.{}: there a packet is not bound to one guest",
            build.api_major, build.api_minor, MIN_API.0, MIN_API.1
        ));
    }
    if product == Some(Product::Naples) && !workload.products.contains(&Product::Naples) {
        failed.push(
            "the platform is a Naples, whose firmware can be rolled back and its keys extracted; a workload must name it (`products: [naples]`)"
                .to_owned(),
        );
    }
    failed
}
