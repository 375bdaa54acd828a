//! A store that is older than what was seen of its audit log outside: is it, and what follows when that is accepted.

use super::Service;
use super::audit_log::LogError;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::record::Event;

/// How the log stands to the checkpoints that were kept outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There are none.
    Unseen,
    /// It continues the last one.
    Continues,
    /// The last one is of more records than there are; as far as can be told, these are its first ones.
    Behind {
        /// How many records were seen.
        seen: u64,
        /// How many there are.
        size: u64,
    },
}

impl Service {
    /// How the log stands to these signed notes, in the order in which they were kept.
    ///
    /// A log that is behind is compared with the newest note that is not beyond it. Notes of a history that was given
    /// up, when an older copy was accepted earlier, are told apart by their sizes: with the note of what was accepted
    /// sizes start again below.
    ///
    /// # Errors
    /// When the log is no continuation of a note that it should be, or that can't be told.
    pub fn standing(&self, notes: &[String]) -> Result<Standing, LogError> {
        let key = self.log_key().ok_or(LogError::NoKey)?;
        let Some(last) = notes.last() else {
            return Ok(Standing::Unseen);
        };
        let last = Checkpoint::open(last, key)?.head().size;
        let size = self.store().log_head()?.size;
        let mut smallest = u64::MAX;
        for note in notes.iter().rev() {
            let at = Checkpoint::open(note, key)?.head().size;
            if at < smallest && at <= size {
                self.continues(note)?;
                break;
            }
            smallest = smallest.min(at);
        }
        Ok(if last <= size {
            Standing::Continues
        } else {
            Standing::Behind { seen: last, size }
        })
    }

    /// Accepts that the store is an older copy: from now on no release is within a limit until a person says what was
    /// released. The signed note of what was accepted, to be kept outside.
    ///
    /// # Errors
    /// When the log can't be signed, or the store fails. Then nothing was accepted, or it can be accepted again.
    pub fn accept_rollback(&self, seen: u64) -> Result<String, LogError> {
        let signed = self.checkpoint()?;
        let newest = self.store().log_checkpoint()?.map(|kept| kept.note);
        let note = signed.or(newest).ok_or(LogError::NoKey)?;
        let accepted = self.store().log_head()?.size;
        let record = self.server_record(Event::RollbackAccepted { seen, accepted })?;
        let now = self.now();
        self.store().accept_rollback(seen, accepted, record, now)?;
        Ok(note)
    }
}
