//! How many failed searches an address may make: a search costs the server up to 4096 MACs and
//! charges no launch, so it must cost the address something.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::Time;

/// Addresses remembered, at most. When all have failed within this minute, a newcomer waits.
const ADDRESSES: usize = 65_536;

/// Failures of each address in the present minute.
pub(super) struct Budgets {
    per_minute: u32,
    failures: Mutex<(i64, HashMap<String, u32>)>,
}

impl Budgets {
    pub(super) fn new(per_minute: u32) -> Self {
        Self {
            per_minute,
            failures: Mutex::default(),
        }
    }

    /// Whether the address may search; otherwise when it may again.
    pub(super) fn check(&self, bucket: &str, now: Time) -> Result<(), Duration> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.0 != now.minute() {
            *failures = (now.minute(), HashMap::new());
        }
        let allowed = match failures.1.get(bucket) {
            Some(count) => *count < self.per_minute,
            None => failures.1.len() < ADDRESSES,
        };
        let rest = 60_000 - now.millis().rem_euclid(60_000);
        if allowed {
            Ok(())
        } else {
            Err(Duration::from_millis(u64::try_from(rest).unwrap_or(60_000)))
        }
    }

    /// Notes a failed search.
    pub(super) fn charge(&self, bucket: &str, now: Time) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.0 == now.minute() && (failures.1.len() < ADDRESSES || failures.1.contains_key(bucket)) {
            *failures.1.entry(bucket.to_owned()).or_insert(0) += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_budget_is_one_address_s_and_one_minute_s() {
        let budgets = Budgets::new(2);
        let now = Time::from_millis(59_000);
        for _ in 0..2 {
            assert_eq!(budgets.check("a", now), Ok(()));
            budgets.charge("a", now);
        }
        assert_eq!(budgets.check("a", now), Err(Duration::from_secs(1)));
        assert_eq!(budgets.check("b", now), Ok(()));
        assert_eq!(budgets.check("a", now.after(Duration::from_secs(1))), Ok(()));
    }
}
