//! How long others are waited for: longer each time, at random, and never beyond the end.

use std::time::{Duration, Instant};

use crate::sev::Random;

/// After the first try.
const FIRST: Duration = Duration::from_millis(500);
/// The longest that is waited between two tries without being told to.
const LONGEST: Duration = Duration::from_secs(30);

/// The tries of one call, up to a moment at which they end.
pub struct Patience<'a> {
    until: Instant,
    tries: u32,
    random: &'a dyn Random,
}

impl<'a> Patience<'a> {
    /// From now on for so long.
    #[must_use]
    pub fn new(timeout: Duration, random: &'a dyn Random) -> Self {
        Self {
            until: Instant::now() + timeout,
            tries: 0,
            random,
        }
    }

    /// What is left.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// How long to wait before the next try: what the server says, but no less than after the first, else twice as long
    /// each time up to half a minute; and at random up to a half of that in addition, as many hosts wait for one server.
    /// None: that is beyond the end.
    pub fn next(&mut self, told: Option<Duration>) -> Option<Duration> {
        let doubled = FIRST.saturating_mul(1_u32.checked_shl(self.tries.min(16)).unwrap_or(u32::MAX));
        self.tries = self.tries.saturating_add(1);
        let least = told.map_or(doubled.min(LONGEST), |told| told.max(FIRST));
        let left = self.left();
        if left.is_zero() || least > left {
            return None;
        }
        let mut bytes = [0; 4];
        // Without randomness it is the least.
        let part = match self.random.fill(&mut bytes) {
            Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
            Err(_) => 0.0,
        };
        Some((least + least.min(LONGEST).mul_f64(part / 2.0)).min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sev::SystemRandom;

    #[test]
    fn it_doubles_up_to_half_a_minute_and_adds_at_most_a_half() {
        let mut patience = Patience::new(Duration::from_secs(86_400), &SystemRandom);
        for least in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let seconds = patience.next(None).map(|wait| wait.as_secs_f64());
            assert!(
                seconds.is_some_and(|s| (least..=least * 1.5).contains(&s)),
                "{least}: {seconds:?}"
            );
        }
    }

    #[test]
    fn what_the_server_says_is_the_least_and_beyond_the_end_nothing_is_waited() {
        let mut patience = Patience::new(Duration::from_secs(60), &SystemRandom);
        let told = patience.next(Some(Duration::from_secs(40)));
        assert!(
            told.is_some_and(|wait| (40..=60).contains(&wait.as_secs())),
            "{told:?}"
        );
        assert_eq!(patience.next(Some(Duration::from_secs(3600))), None);
        assert_eq!(Patience::new(Duration::ZERO, &SystemRandom).next(None), None);
    }

    #[test]
    fn who_is_told_to_come_back_at_once_still_waits_and_ends() {
        let mut patience = Patience::new(Duration::from_secs(60), &SystemRandom);
        let told = patience.next(Some(Duration::ZERO));
        assert!(told.is_some_and(|wait| wait >= FIRST), "{told:?}");
        let mut patience = Patience::new(Duration::ZERO, &SystemRandom);
        assert_eq!(patience.next(Some(Duration::ZERO)), None);
    }
}
