//! How long a message waits after it could not be delivered.

use std::time::Duration;

use crate::sev::Random;

/// After the first try.
const FIRST: Duration = Duration::from_secs(5);
/// The longest that is waited.
const LONGEST: Duration = Duration::from_secs(3600);

/// Twice as long each time, up to an hour, and of that at random between half and all: receivers that were away are
/// not called by everybody at once.
pub(super) fn delay(tries: u32, random: &dyn Random) -> Duration {
    let longest = FIRST
        .saturating_mul(1_u32.checked_shl(tries.min(16)).unwrap_or(u32::MAX))
        .min(LONGEST);
    let mut bytes = [0; 4];
    // Without randomness it is the longest.
    let part = match random.fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    };
    longest.mul_f64(0.5 + part / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sev::SystemRandom;

    #[test]
    fn it_grows_to_an_hour_and_is_never_less_than_half_of_that() {
        for (tries, least, most) in [
            (0, 2.5, 5.0),
            (1, 5.0, 10.0),
            (9, 1280.0, 2560.0),
            (10, 1800.0, 3600.0),
            (u32::MAX, 1800.0, 3600.0),
        ] {
            let seconds = delay(tries, &SystemRandom).as_secs_f64();
            assert!((least..=most).contains(&seconds), "{tries}: {seconds}");
        }
    }
}
