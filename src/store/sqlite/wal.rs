//! SQLite's write-ahead log, where what was replaced or deleted lies on until it is emptied.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Sqlite;
use crate::store::engine::{Connection, RowError, params};
use crate::store::{SqlStore, StoreError};

/// How long emptying the log waits for readers: meanwhile nobody writes.
const PATIENCE: Duration = Duration::from_millis(200);

/// Pages of the log from which on SQLite moves it at a commit, should that not have been done before: 64 MB.
pub(super) const LAST_RESORT: i64 = 16_384;

/// Moves what is in the log into the database, as far as nobody is in the way.
pub(super) fn move_log(connection: &Connection) -> Result<(), RowError> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", params![], |_| Ok(()))
}

/// Moves the log into the database on a thread of its own, so that whoever writes goes on meanwhile.
///
/// What is written meanwhile stays in the log, and the log begins anew only once all of it was moved; so the writer moves
/// that rest itself, which is little.
pub(super) struct Mover {
    queue: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    moved: Arc<AtomicBool>,
}

impl Mover {
    /// Starts the thread with its connection.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(connection: Connection) -> std::io::Result<Self> {
        let (queue, told) = sync_channel::<()>(1);
        let moved = Arc::new(AtomicBool::new(false));
        let done = moved.clone();
        let thread = std::thread::Builder::new()
            .name("store-mover".to_owned())
            .spawn(move || {
                while told.recv().is_ok() {
                    match move_log(&connection) {
                        Ok(()) => done.store(true, Ordering::SeqCst),
                        Err(error) => {
                            log::warn!(
                                "the write-ahead log could not be moved: {}",
                                StoreError::from(error)
                            );
                        }
                    }
                }
            })?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
            moved,
        })
    }

    /// Has it begin, unless it is at work.
    pub(super) fn begin(&self) {
        if let Some(queue) = &self.queue {
            let _ = queue.try_send(());
        }
    }

    /// Whether it has moved the log since this was asked.
    pub(super) fn has_moved(&self) -> bool {
        self.moved.swap(false, Ordering::SeqCst)
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl SqlStore {
    /// Moves what was committed from SQLite's log into the database and empties the log, where what was replaced or
    /// deleted lies on. Whether all of it went: readers that are at work hold some back.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn checkpoint(&self) -> Result<bool, StoreError> {
        self.sqlite().map_or(Ok(true), Sqlite::checkpoint)
    }
}

impl Sqlite {
    fn checkpoint(&self) -> Result<bool, StoreError> {
        let connection = Self::beside(&self.path).map_err(RowError::from)?;
        connection.busy_timeout(PATIENCE).map_err(RowError::from)?;
        let until = Instant::now() + PATIENCE;
        loop {
            let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
            let busy: i64 = connection
                .query_row(sql, [], |row| row.get(0))
                .map_err(RowError::from)?;
            if busy == 0 || Instant::now() >= until {
                return Ok(busy == 0);
            }
            // Somebody else moves the log, for whom SQLite does not wait.
            std::thread::sleep(PATIENCE / 20);
        }
    }

    /// Empties the log after something was destroyed; if it can't be now, [`Sqlite::empty_log_if_due`] does.
    pub(in crate::store) fn empty_log_soon(&self) {
        self.log_due.store(true, Ordering::SeqCst);
        self.empty_log_if_due();
    }

    /// Empties the log where that is due: at first, as the program may have been killed before it could.
    pub(in crate::store) fn empty_log_if_due(&self) {
        if self.log_due.swap(false, Ordering::SeqCst) && !matches!(self.checkpoint(), Ok(true)) {
            self.log_due.store(true, Ordering::SeqCst);
        }
    }
}
