//! Places that are taken and given back: so many in all, and of one address a share, so that nobody can take all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::release::Host;

/// How many places each address has.
#[derive(Clone)]
pub(super) struct Slots {
    all: usize,
    each: usize,
    taken: Arc<Mutex<HashMap<String, usize>>>,
}

/// A place; given back when it is dropped.
pub(super) struct Slot {
    slots: Slots,
    bucket: String,
}

impl Slots {
    /// So many places, of which one address (IPv6: one /64) has at most `each`.
    pub(super) fn new(all: usize, each: usize) -> Self {
        Self {
            all,
            each,
            taken: Arc::default(),
        }
    }

    pub(super) fn take(&self, peer: IpAddr) -> Option<Slot> {
        let bucket = Host {
            address: peer,
            identity: None,
        }
        .bucket();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= self.all {
            return None;
        }
        let own = taken.entry(bucket.clone()).or_default();
        if *own >= self.each {
            return None;
        }
        *own += 1;
        drop(taken);
        Some(Slot {
            slots: self.clone(),
            bucket,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.bucket) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.remove(&self.bucket);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_and_all_have_no_more_than_there_are() {
        let slots = Slots::new(5, 3);
        let take = |address: &str| slots.take(address.parse().unwrap());
        let mut own: Vec<_> = (0..3).map(|_| take("192.0.2.1").unwrap()).collect();
        assert!(take("192.0.2.1").is_none());
        let _others = [take("2001:db8::1").unwrap(), take("2001:db8::2").unwrap()];
        assert!(take("192.0.2.2").is_none(), "there is no sixth");
        own.pop();
        assert!(take("192.0.2.2").is_some());
        assert!(take("192.0.2.1").is_some(), "what is dropped is given back");
    }
}
