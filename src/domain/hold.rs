//! Holds: releases that wait for the owner because a count is used up.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::decision::WorkloadRef;
use super::{HexDigest, Name, Time};

/// One open hold stands for every launch of a workload that asked for the same secrets.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Hold {
    /// Its id, which the host learns.
    pub id: Uuid,
    /// The workload.
    pub workload: WorkloadRef,
    /// The secrets that were asked for, in order.
    pub secrets: Vec<Name>,
    /// The launch digest that was attested by the latest try.
    pub launch_digest: HexDigest,
    /// Fingerprint of the chip's CEK in the latest try.
    pub cek: HexDigest,
    /// When the first launch was held.
    pub created: Time,
    /// When a launch last asked.
    pub last_try: Time,
    /// How many launches it holds back.
    pub launches: u64,
    /// How often they asked.
    pub requests: u64,
    /// Which limits are used up.
    pub reason: String,
}
