//! The one writer, with group commit.
//!
//! Requests queue their changes here. The writer's thread takes what has queued up, runs each change
//! in a savepoint of one transaction, commits once, and only then answers all of them: many durable
//! changes for one flush to the disk. A change that fails is undone alone; a commit that fails fails
//! every change in it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::super::StoreError;
use super::wal::{self, Mover};
use crate::store::engine::{Connection, RowError, params};
use crate::store::sql::crowd::Ceilings;
use crate::store::sql::log as audit;

/// Changes in one commit, at most.
const GROUP: usize = 128;
/// Changes between two times that the log is moved into the database.
const MOVED: usize = 400;
/// Changes that may queue; past it callers wait.
const QUEUE: usize = 1024;

/// Called with what became of the commit.
type Answer = Box<dyn FnOnce(Result<(), &str>) + Send>;
/// A change: whether to keep it, and whom to tell.
type Job = Box<dyn FnOnce(&Connection) -> (bool, Answer) + Send>;

/// A handle on the writer's thread.
pub(super) struct Writer {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread with its connection.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(
        connection: Connection,
        ceilings: Arc<Ceilings>,
        mover: Mover,
    ) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE);
        let mut thread = Thread {
            connection,
            ceilings,
            mover,
            since: 0,
            version: None,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || thread.serve(&jobs))?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
        })
    }

    /// Runs a change and waits until it is durable.
    ///
    /// # Errors
    /// What the change says, or that the engine failed.
    pub(super) fn run<T, E>(
        &self,
        change: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (sender, receiver) = sync_channel(1);
        let job: Job = Box::new(move |connection| {
            let result = catch_unwind(AssertUnwindSafe(|| change(connection)))
                .unwrap_or_else(|_| Err(StoreError::Engine("a change failed inside".to_owned()).into()));
            let keep = result.is_ok();
            let answer: Answer = Box::new(move |commit| {
                let result = match commit {
                    Ok(()) => result,
                    Err(why) => result.and_then(|_| Err(StoreError::Engine(why.to_owned()).into())),
                };
                // Whoever asked may have gone; the change stands all the same.
                let _ = sender.send(result);
            });
            (keep, answer)
        });
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        queue.send(job).map_err(|_| StoreError::Closed)?;
        let unwritable = || StoreError::Engine("the database can't be written now".to_owned());
        receiver.recv().map_err(|_| unwritable())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the writer's thread works with.
struct Thread {
    connection: Connection,
    /// Known as long as nobody else writes and nothing is undone.
    ceilings: Arc<Ceilings>,
    /// What moves the log beside this thread.
    mover: Mover,
    /// Changes since it was told to.
    since: usize,
    /// What SQLite says of changes that others made.
    version: Option<i64>,
}

impl Thread {
    fn serve(&mut self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let mut answers = Vec::new();
            let outcome = self.group(first, jobs, &mut answers);
            if let Err(error) = &outcome {
                log::error!("a commit failed: {error}");
                self.ceilings.forget();
                if self.connection.is_in_transaction() {
                    let _ = self.connection.execute_batch("ROLLBACK");
                }
            }
            self.since += answers.len();
            for answer in answers {
                answer(outcome.as_ref().copied().map_err(String::as_str));
            }
            self.move_log();
        }
    }

    /// Runs the jobs at hand in one transaction. One that could not be run is dropped, and its caller
    /// sees the channel close.
    fn group(&mut self, first: Job, jobs: &Receiver<Job>, answers: &mut Vec<Answer>) -> Result<(), String> {
        let text = |error: RowError| StoreError::from(error).to_string();
        self.run("BEGIN IMMEDIATE").map_err(text)?;
        self.look_for_others().map_err(text)?;
        let mut next = Some(first);
        while let Some(job) = next {
            self.run("SAVEPOINT change").map_err(text)?;
            let (keep, answer) = job(&self.connection);
            answers.push(answer);
            if !keep {
                self.ceilings.forget();
                self.run("ROLLBACK TO change").map_err(text)?;
            }
            self.run("RELEASE change").map_err(text)?;
            next = if answers.len() < GROUP {
                jobs.try_recv().ok()
            } else {
                None
            };
        }
        // What is recorded has its place in the audit log's tree when it is durable, or nothing is.
        while audit::sequence(&self.connection).map_err(text)? {}
        self.run("COMMIT").map_err(text)
    }

    /// Has the log moved from time to time, and does the rest of it where most was moved.
    fn move_log(&mut self) {
        if self.since >= MOVED {
            self.since = 0;
            self.mover.begin();
        }
        if self.mover.has_moved()
            && let Err(error) = wal::move_log(&self.connection)
        {
            log::warn!(
                "the write-ahead log could not be moved: {}",
                StoreError::from(error)
            );
        }
    }

    fn run(&self, sql: &str) -> Result<(), RowError> {
        self.connection.execute(sql, params![]).map(|_| ())
    }

    /// Another process that writes, such as a tool beside the server, ends what is known here.
    fn look_for_others(&mut self) -> Result<(), RowError> {
        let version = self
            .connection
            .query_row("PRAGMA data_version", params![], |row| row.get(0))?;
        if self.version.replace(version) != Some(version) {
            self.ceilings.forget();
        }
        Ok(())
    }
}
