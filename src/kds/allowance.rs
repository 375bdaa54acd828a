//! How many chips one address may ask the service for: an address that makes ids up must not use up
//! what the service grants this server.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a window is.
const WINDOW: Duration = Duration::from_secs(600);
/// Addresses whose windows are remembered, at most.
const ADDRESSES: usize = 65_536;

/// Chips that addresses asked for, each in a window of its own.
pub(super) struct Allowance {
    chips: u32,
    /// When an address's window began, and how many chips it asked for since.
    windows: HashMap<String, (Instant, u32)>,
}

impl Allowance {
    /// So many chips in ten minutes for an address, at least one.
    pub(super) fn of(chips: u32) -> Self {
        Self {
            chips: chips.max(1),
            windows: HashMap::new(),
        }
    }

    /// Whether an address may ask for another chip.
    ///
    /// # Errors
    /// How long it has to wait otherwise.
    pub(super) fn check(&mut self, address: &str, now: Instant) -> Result<(), Duration> {
        self.windows
            .retain(|_, (since, _)| now.saturating_duration_since(*since) < WINDOW);
        match self.windows.get(address) {
            Some((since, asked)) if *asked >= self.chips => {
                Err(WINDOW.saturating_sub(now.saturating_duration_since(*since)))
            }
            None if self.windows.len() >= ADDRESSES => Err(WINDOW),
            _ => Ok(()),
        }
    }

    /// Counts one chip.
    pub(super) fn charge(&mut self, address: &str, now: Instant) {
        let window = self.windows.entry(address.to_owned()).or_insert((now, 0));
        window.1 = window.1.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_chips_in_a_window_and_others_have_their_own() {
        let mut allowance = Allowance::of(2);
        let start = Instant::now();
        for _ in 0..2 {
            assert_eq!(allowance.check("a", start), Ok(()));
            allowance.charge("a", start);
        }
        let later = start + Duration::from_secs(60);
        assert_eq!(allowance.check("a", later), Err(Duration::from_secs(540)));
        assert_eq!(allowance.check("b", later), Ok(()));
        assert_eq!(allowance.check("a", start + WINDOW), Ok(()));
    }

    #[test]
    fn addresses_without_number_do_not_fill_the_memory() {
        let mut allowance = Allowance::of(1);
        let now = Instant::now();
        for number in 0..ADDRESSES {
            allowance.charge(&number.to_string(), now);
        }
        assert_eq!(allowance.check("another", now), Err(WINDOW));
        assert_eq!(allowance.check("another", now + WINDOW), Ok(()));
        assert!(allowance.windows.is_empty());
    }
}
