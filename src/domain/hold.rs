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
    /// What was attested of the launches that it holds back, the first of them first.
    pub attested: Vec<Held>,
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

/// A guest image on a chip that a hold stands for. A confirmation is for one of these, or for any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Held {
    /// The launch digest.
    pub launch_digest: HexDigest,
    /// Fingerprint of the chip's CEK.
    pub cek: HexDigest,
    /// How many launches of it are held back.
    pub launches: u64,
}

impl Hold {
    /// Different images and chips that one hold lists; launches of more are counted in it, and not listed.
    const LISTED: usize = 64;

    /// Notes what was attested of a launch, which is `new` to this hold or asks again.
    pub fn note(&mut self, launch_digest: HexDigest, cek: HexDigest, new: bool) {
        let room = self.attested.len() < Self::LISTED;
        let mut all = self.attested.iter_mut();
        match all.find(|held| held.launch_digest == launch_digest && held.cek == cek) {
            Some(held) => held.launches += u64::from(new),
            None if room => self.attested.push(Held {
                launch_digest,
                cek,
                launches: 1,
            }),
            None => {}
        }
    }
}
