//! How many releases there were, as a decision sees them.

use uuid::Uuid;

use super::{Refusal, Service};
use crate::domain::state::{SecretInfo, WorkloadContext};
use crate::domain::{Name, Time};
use crate::store::{ReleaseCounts, ReleaseScope, StoreError};

/// How many releases there were, of the workload and of each secret, as one decision sees them.
pub(super) struct Releases {
    workload: ReleaseCounts,
    secrets: Vec<(Name, ReleaseCounts)>,
    uuid: Uuid,
}

impl Releases {
    /// As if there were none: for policies that do not look.
    pub(super) fn none(context: &WorkloadContext) -> Self {
        Self {
            workload: ReleaseCounts::default(),
            secrets: Vec::new(),
            uuid: context.registered.workload.uuid,
        }
    }

    pub(super) fn read(
        service: &Service,
        context: &WorkloadContext,
        secrets: &[&SecretInfo],
        now: Time,
    ) -> Result<Self, Refusal> {
        let uuid = context.registered.workload.uuid;
        let count = |scope: ReleaseScope| service.store().release_counts(&context.owner, &scope, now);
        let of_secrets = secrets.iter().map(|secret| {
            Ok((
                secret.name.clone(),
                count(ReleaseScope::Secret(secret.name.clone()))?,
            ))
        });
        let secrets = of_secrets.collect::<Result<_, StoreError>>()?;
        Ok(Self {
            workload: count(ReleaseScope::Workload(uuid))?,
            secrets,
            uuid,
        })
    }

    /// For a policy that is asked for a secret: releases of that secret; otherwise of the workload.
    pub(super) fn of(&self, secret: Option<&Name>) -> ReleaseCounts {
        match secret {
            None => self.workload,
            Some(name) => self
                .secrets
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, counts)| *counts)
                .unwrap_or_default(),
        }
    }

    /// What was seen, for the store to hold the commit to.
    pub(super) fn seen(&self) -> Vec<(ReleaseScope, u64)> {
        let secrets = self
            .secrets
            .iter()
            .map(|(name, counts)| (ReleaseScope::Secret(name.clone()), counts.total));
        std::iter::once((ReleaseScope::Workload(self.uuid), self.workload.total))
            .chain(secrets)
            .collect()
    }
}
