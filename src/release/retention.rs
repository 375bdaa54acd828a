//! The rule of retention: what is forgotten by age, once a day.

use super::Service;
use crate::domain::Time;
use crate::store::StoreError;

const DAY: i64 = 86_400_000;
/// Parts that are forgotten in one go, at most; the next go comes in seconds.
const PARTS: usize = 16;

/// For how many days something is kept at least; none: for ever.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    /// What records of the audit log say.
    pub records: Option<u32>,
    /// Decisions.
    pub decisions: Option<u32>,
}

impl Service {
    /// Forgets what is older than the rule says.
    ///
    /// Ages are counted in whole days (UTC), so that things are forgotten together and up to a day late. Otherwise the
    /// record of what was forgotten would itself be forgotten in its time, alone, and leave another, and so on.
    ///
    /// # Errors
    /// When the store fails.
    pub fn forget(&self, kept: Kept) -> Result<(), StoreError> {
        let now = self.now();
        if let Some(days) = kept.decisions {
            let before = midnight(now, days);
            for _ in 0..PARTS {
                if !self.store().forget_decisions(before, now)? {
                    break;
                }
            }
        }
        if let Some(days) = kept.records {
            let before = midnight(now, days);
            for _ in 0..PARTS {
                if !self.store().forget_records(before, now)? {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// The beginning of the day that was so many days ago.
fn midnight(now: Time, days: u32) -> Time {
    let today = now.millis() - now.millis().rem_euclid(DAY);
    Time::from_millis(today - i64::from(days) * DAY)
}
