//! How many failed searches an address may make: a search costs the server up to 4096 MACs and
//! charges no launch, so it must cost the address something.
//!
//! A search is counted before it is made and given back when it finds its launch: what runs side by
//! side can't fail more often than one after the other.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::Time;
use crate::domain::launch::network;

/// Addresses remembered, at most. When as many have searched within this minute, the networks of IPv6
/// are counted in place of the addresses in them, as one host can have a great many of those.
const ADDRESSES: usize = 65_536;
/// When to come back if what runs now may still leave room.
const SOON: Duration = Duration::from_secs(1);

/// Failures of each address in the present minute.
pub(super) struct Budgets {
    per_minute: u32,
    present: Mutex<Minute>,
}

#[derive(Default)]
struct Minute {
    number: i64,
    /// Networks are counted, no longer their addresses.
    coarse: bool,
    searches: HashMap<String, Searches>,
    /// Searches begun, by which it is known who began last.
    begun: u64,
}

#[derive(Clone, Copy, Default)]
struct Searches {
    failed: u32,
    running: u32,
    last: u64,
}

/// A search that was counted; when it is dropped without having failed, it is given back.
pub(super) struct Search<'a> {
    budgets: &'a Budgets,
    bucket: String,
    minute: i64,
    failed: bool,
}

impl Budgets {
    pub(super) fn new(per_minute: u32) -> Self {
        Self {
            per_minute,
            present: Mutex::default(),
        }
    }

    /// Counts a search of this address; otherwise when it may search again.
    pub(super) fn begin(&self, bucket: &str, now: Time) -> Result<Search<'_>, Duration> {
        let mut minute = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if minute.number != now.minute() {
            *minute = Minute {
                number: now.minute(),
                ..Minute::default()
            };
        }
        let searches = minute.of(bucket);
        if searches.failed >= self.per_minute {
            let rest = 60_000 - now.millis().rem_euclid(60_000);
            return Err(Duration::from_millis(u64::try_from(rest).unwrap_or(60_000)));
        }
        if searches.failed.saturating_add(searches.running) >= self.per_minute {
            return Err(SOON);
        }
        searches.running += 1;
        Ok(Search {
            budgets: self,
            bucket: bucket.to_owned(),
            minute: minute.number,
            failed: false,
        })
    }
}

impl Search<'_> {
    /// It found nothing, and stays counted.
    pub(super) fn failed(mut self) {
        self.failed = true;
    }
}

impl Drop for Search<'_> {
    fn drop(&mut self) {
        let mut minute = self
            .budgets
            .present
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if minute.number == self.minute {
            minute.end(&self.bucket, self.failed);
        }
    }
}

impl Minute {
    fn key(&self, bucket: &str) -> String {
        if self.coarse {
            network(bucket)
        } else {
            bucket.to_owned()
        }
    }

    /// What this address has searched, with room made for it if it is new.
    fn of(&mut self, bucket: &str) -> &mut Searches {
        if self.searches.len() >= ADDRESSES && !self.searches.contains_key(&self.key(bucket)) {
            self.make_room(bucket);
        }
        self.begun += 1;
        let last = self.begun;
        let searches = self.searches.entry(self.key(bucket)).or_default();
        searches.last = last;
        searches
    }

    fn make_room(&mut self, newcomer: &str) {
        if !self.coarse {
            self.coarse = true;
            for (bucket, one) in std::mem::take(&mut self.searches) {
                let all = self.searches.entry(network(&bucket)).or_default();
                all.failed = all.failed.saturating_add(one.failed);
                all.running = all.running.saturating_add(one.running);
                all.last = all.last.max(one.last);
            }
        }
        if self.searches.len() >= ADDRESSES && !self.searches.contains_key(&self.key(newcomer)) {
            // Nobody is kept out because others are many: who has not searched for longest is forgotten.
            let stalest = self.searches.iter().min_by_key(|(_, searches)| searches.last);
            if let Some(stalest) = stalest.map(|(bucket, _)| bucket.clone()) {
                self.searches.remove(&stalest);
            }
        }
    }

    fn end(&mut self, bucket: &str, failed: bool) {
        let key = self.key(bucket);
        let Some(searches) = self.searches.get_mut(&key) else {
            return;
        };
        searches.running = searches.running.saturating_sub(1);
        searches.failed = searches.failed.saturating_add(u32::from(failed));
        if searches.failed == 0 && searches.running == 0 {
            self.searches.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(budgets: &Budgets, bucket: &str, now: Time) -> bool {
        let search = budgets.begin(bucket, now);
        search.map(Search::failed).is_ok()
    }

    #[test]
    fn a_spent_budget_is_one_address_s_and_one_minute_s() {
        let budgets = Budgets::new(2);
        let now = Time::from_millis(59_000);
        assert!(fail(&budgets, "a", now) && fail(&budgets, "a", now));
        assert_eq!(budgets.begin("a", now).err(), Some(Duration::from_secs(1)));
        assert!(budgets.begin("b", now).is_ok());
        assert!(budgets.begin("a", now.after(Duration::from_secs(1))).is_ok());
    }

    #[test]
    fn searches_that_run_count_until_they_find_what_they_look_for() {
        let budgets = Budgets::new(2);
        let now = Time::from_millis(0);
        let (one, two) = (budgets.begin("a", now), budgets.begin("a", now));
        assert!(one.is_ok() && two.is_ok());
        assert_eq!(budgets.begin("a", now).err(), Some(SOON));
        drop(one);
        assert!(fail(&budgets, "a", now));
        assert_eq!(budgets.begin("a", now).err(), Some(SOON));
        drop(two);
        assert!(fail(&budgets, "a", now));
        assert_eq!(budgets.begin("a", now).err(), Some(Duration::from_secs(60)));
    }

    #[test]
    fn a_search_that_ends_in_another_minute_is_not_given_back_to_it() {
        let budgets = Budgets::new(1);
        let (now, later) = (Time::from_millis(0), Time::from_millis(60_000));
        let before = budgets.begin("a", now);
        let after = budgets.begin("a", later);
        assert!(before.is_ok() && after.is_ok());
        drop(before);
        assert_eq!(budgets.begin("a", later).err(), Some(SOON));
    }

    #[test]
    fn a_network_that_fails_from_all_its_addresses_keeps_no_other_out() {
        let budgets = Budgets::new(2);
        let now = Time::from_millis(0);
        let flooder = |n: usize| format!("2001:db8:1:{n:x}::/64");
        for n in 0..ADDRESSES {
            assert!(fail(&budgets, &flooder(n), now), "address {n}");
        }
        for newcomer in ["192.0.2.7", "2001:db8:2:1::/64"] {
            assert!(fail(&budgets, newcomer, now), "{newcomer}");
        }
        assert!(!fail(&budgets, &flooder(1), now), "the network that flooded");
        // One budget for a network, as long as that many search.
        assert!(fail(&budgets, "2001:db8:2:2::/64", now));
        assert!(!fail(&budgets, "2001:db8:2:3::/64", now));
    }

    #[test]
    fn when_networks_are_too_many_as_well_the_stalest_is_forgotten() {
        let budgets = Budgets::new(1);
        let now = Time::from_millis(0);
        for n in 0..ADDRESSES {
            assert!(
                fail(&budgets, &format!("2001:{n:x}:1:1::/64"), now),
                "network {n}"
            );
        }
        assert!(fail(&budgets, "192.0.2.7", now));
        assert!(!fail(&budgets, "192.0.2.7", now));
        assert!(!fail(&budgets, "2001:1:1:1::/64", now));
        assert!(fail(&budgets, "2001:0:1:1::/64", now), "it was forgotten");
    }
}
