//! Keyward: an attestation server for AMD SEV and SEV-ES guests.
//!
//! The life of one release, and where each step happens:
//!
//! - A host asks to launch a workload: [`http`] parses the request, [`release`] orders the steps.
//! - Who is this platform? [`sev::chain`] verifies its certificates up to AMD's pinned roots; a chip
//!   certificate without AMD's signature is completed through [`kds`].
//! - May it launch? [`policy`] evaluates what the owner bound to it, in Rego, in a process of its own
//!   ([`isolation`]).
//! - [`sev::session`] makes fresh keys (TIK, TEK) that only that platform's PSP can unwrap;
//!   [`store`] remembers them, sealed by [`sealing`]. Session and owner certificate leave.
//! - The host starts the guest paused and sends its measurement. What runs there?
//!   [`sev::measurement`] finds the launch digest with which the MAC holds.
//! - May it have these secrets? [`policy`] again, now with what was attested.
//! - [`store`] spends the launch, raises every count under its limit and records the decision, in
//!   one transaction. Not committed means not sent.
//! - [`sev::packet`] wraps the secrets for that one guest. Header and payload leave.
//!
//! Clients of simple-kbs come in by [`grpc`] and go the same way.
//!
//! Callers without a token of this server, by a provider's token or a client certificate: [`identity`].
//!
//! What happened is a leaf of [`audit`]'s Merkle tree; its export proves itself on another machine.
//!
//! What is measured of all that is [`metrics`], for Prometheus.
//!
//! On the hypervisor [`host`] talks to QEMU: it gets a launch's session there, and the packet into the guest.
//!
//! [`domain`] has the words as types, [`config`] every key of the configuration, [`webhook`] tells others of holds and
//! checkpoints, [`psp`] is a software PSP for trying it all without the hardware, [`cli`] has one file for each verb.

pub mod audit;
pub mod cli;
pub mod config;
pub mod domain;
pub mod grpc;
pub mod host;
pub mod http;
pub mod identity;
pub mod isolation;
pub mod kds;
pub mod manifest;
pub mod metrics;
pub mod outward;
pub mod policy;
pub mod psp;
pub mod release;
pub mod sealing;
pub mod sev;
pub mod store;
pub mod webhook;
