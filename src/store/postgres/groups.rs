//! Changes of one owner's that wait here at the same time are made in one transaction, with one flush to the disk.
//!
//! They would wait for the owner's row anyway, each with a connection of its own; so one of them leads, takes a connection
//! and the row for all, and runs each in a savepoint: one that fails is undone alone. Whoever asks for another owner finds
//! connections free, however many ask for this one.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::session::Failure;
use super::{End, Shared, lock};
use crate::domain::Name;
use crate::store::StoreError;
use crate::store::engine::Connection;
use crate::store::sql::Scope;

/// Changes in one transaction, at most.
const GROUP: usize = 32;
/// After this long no further change is made in a transaction: others wait for what it holds, and not for ever.
const LONG: Duration = Duration::from_millis(250);

/// Who waits, by owner.
pub(super) struct Groups {
    /// An owner is here as long as somebody leads.
    owners: Mutex<HashMap<Name, VecDeque<Arc<dyn Waiting>>>>,
    /// How long a change waits for its turn.
    patience: Duration,
}

/// A change that waits, whatever it returns.
trait Waiting: Send + Sync {
    /// Makes the change, and keeps what it returned; whether it is to stay.
    fn run(&self, connection: &Connection) -> bool;
    /// What it returned stands; where it was to stay and was not committed, this does.
    fn end(&self, not_made: Option<&str>);
    /// What it returned is void: it was found out beside others that are not there.
    fn forget(&self);
    /// From now on it leads.
    fn lead(&self);
}

struct Slot<T, E, F> {
    change: Mutex<F>,
    state: Mutex<State<T, E>>,
    told: Condvar,
}

struct State<T, E> {
    result: Option<Result<T, E>>,
    ended: bool,
    leads: bool,
}

fn locked<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T, E, F> Slot<T, E, F> {
    fn new(change: F) -> Self {
        let state = State {
            result: None,
            ended: false,
            leads: false,
        };
        Self {
            change: Mutex::new(change),
            state: Mutex::new(state),
            told: Condvar::new(),
        }
    }

    /// Waits until the change was made, or has to lead, for at most this long.
    fn wait(&self, patience: Duration) -> Turn {
        let state = locked(&self.state);
        let waited = self
            .told
            .wait_timeout_while(state, patience, |state| !state.ended && !state.leads);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match (state.ended, state.leads) {
            (true, _) => Turn::Over,
            (false, true) => Turn::Lead,
            (false, false) => Turn::Waits,
        }
    }
}

/// Where a change is that waited.
enum Turn {
    Over,
    Lead,
    Waits,
}

impl<T: Send, E: From<StoreError> + Send, F: Fn(&Connection) -> Result<T, E> + Send> Waiting
    for Slot<T, E, F>
{
    fn run(&self, connection: &Connection) -> bool {
        let change = locked(&self.change);
        let result = catch_unwind(AssertUnwindSafe(|| change(connection)))
            .unwrap_or_else(|_| Err(StoreError::Engine("a change failed inside".to_owned()).into()));
        let stays = result.is_ok();
        locked(&self.state).result = Some(result);
        stays
    }

    fn end(&self, not_made: Option<&str>) {
        let mut state = locked(&self.state);
        if state.ended {
            return;
        }
        if let Some(why) = not_made
            && !matches!(state.result, Some(Err(_)))
        {
            state.result = Some(Err(StoreError::Engine(why.to_owned()).into()));
        }
        state.ended = true;
        self.told.notify_all();
    }

    fn forget(&self) {
        locked(&self.state).result = None;
    }

    fn lead(&self) {
        locked(&self.state).leads = true;
        self.told.notify_all();
    }
}

/// Hands the lead on, however the leader's work ends.
struct Lead<'g> {
    groups: &'g Groups,
    owner: &'g Name,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut owners = locked(&self.groups.owners);
        let next = owners.get_mut(self.owner).and_then(VecDeque::pop_front);
        match next {
            Some(next) => next.lead(),
            None => drop(owners.remove(self.owner)),
        }
    }
}

/// Tells those of a group that nobody told: the leader's work ended in a panic, and what they returned may not be there.
struct Untold(Vec<Arc<dyn Waiting>>);

impl Drop for Untold {
    fn drop(&mut self) {
        self.0.iter().for_each(|waiting| waiting.end(Some(INSIDE)));
    }
}

/// How long those of a group are run again that others were in the way of, while the owner's next wait.
const AGAIN: Duration = Duration::from_secs(2);
/// What is said of a change that had no turn.
const LATE: &str = "the owner's changes before this one took too long";
/// What is said of a change that ended as no change does.
const INSIDE: &str = "a change failed inside";

/// Why a group's transaction did not commit.
enum Unmade {
    /// Its only change did not want to stay.
    Undone,
    Failed(StoreError),
}

impl From<StoreError> for Unmade {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// What a transaction did not make of its group.
#[derive(Default)]
struct Rest {
    /// Another transaction was in the way of these: each is run again by itself.
    again: Vec<Arc<dyn Waiting>>,
    /// There was no more time for the last so many.
    left: usize,
}

impl Groups {
    /// Changes wait for so long for their turn.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            owners: Mutex::default(),
            patience,
        }
    }

    /// Makes a change of this owner's, and waits until it is durable.
    pub(super) fn run<T, E>(
        &self,
        shared: &Shared,
        owner: &Name,
        change: impl Fn(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let slot = Arc::new(Slot::new(change));
        let waiting: Arc<dyn Waiting> = slot.clone();
        let leads = {
            let mut owners = locked(&self.owners);
            match owners.get_mut(owner) {
                Some(others) => {
                    others.push_back(waiting.clone());
                    false
                }
                None => owners.insert(owner.clone(), VecDeque::new()).is_none(),
            }
        };
        let mut turn = if leads {
            Turn::Lead
        } else {
            slot.wait(self.patience)
        };
        while matches!(turn, Turn::Waits) {
            if self.gives_up(owner, &waiting) {
                return Err(StoreError::Engine(LATE.to_owned()).into());
            }
            // Its group is under way.
            turn = slot.wait(self.patience);
        }
        if matches!(turn, Turn::Lead) {
            let _lead = Lead { groups: self, owner };
            self.lead(shared, owner, waiting);
        }
        let result = locked(&slot.state).result.take();
        result.unwrap_or_else(|| Err(StoreError::Engine(INSIDE.to_owned()).into()))
    }

    /// Takes a change back that nobody has begun; whether that was so.
    fn gives_up(&self, owner: &Name, waiting: &Arc<dyn Waiting>) -> bool {
        let mut owners = locked(&self.owners);
        let Some(others) = owners.get_mut(owner) else {
            return false;
        };
        let before = others.len();
        others.retain(|other| !Arc::ptr_eq(other, waiting));
        others.len() < before
    }

    /// Makes the leader's change and those that wait with it.
    fn lead(&self, shared: &Shared, owner: &Name, own: Arc<dyn Waiting>) {
        let mut group = vec![own];
        if let Some(others) = locked(&self.owners).get_mut(owner) {
            let more = others.len().min(GROUP - 1);
            group.extend(others.drain(..more));
        }
        let mut untold = Untold(group);
        let left = shared.make(owner, &untold.0);
        let left = untold.0.split_off(untold.0.len() - left.min(untold.0.len()));
        untold.0.clear();
        if let Some(others) = locked(&self.owners).get_mut(owner) {
            for waiting in left.into_iter().rev() {
                others.push_front(waiting);
            }
        }
    }
}

impl Shared {
    /// Makes the changes of a group, those that could not be made together each by itself, and tells them; how many at its
    /// end were not begun.
    fn make(&self, owner: &Name, group: &[Arc<dyn Waiting>]) -> usize {
        let scope = Scope::Owner(owner.clone());
        let made = self.again(
            |connection| {
                lock(connection, &scope).map_err(StoreError::from)?;
                match group {
                    [one] if one.run(connection) => Ok(Rest::default()),
                    [_] => Err(Unmade::Undone),
                    group => each(connection, group).map_err(Unmade::Failed),
                }
            },
            End::Commit,
        );
        match made {
            Ok(Rest { again, left }) => {
                let begun = group.len().saturating_sub(left);
                for waiting in group.iter().take(begun) {
                    if !again.iter().any(|other| Arc::ptr_eq(other, waiting)) {
                        waiting.end(None);
                    }
                }
                let until = Instant::now() + AGAIN;
                for one in again {
                    if Instant::now() < until {
                        self.make(owner, &[one]);
                    } else {
                        one.end(Some(LATE));
                    }
                }
                left
            }
            Err(unmade) => {
                let why = match unmade {
                    Unmade::Undone => INSIDE.to_owned(),
                    Unmade::Failed(StoreError::Engine(why)) => why,
                    Unmade::Failed(other) => other.to_string(),
                };
                for waiting in group {
                    if group.len() > 1 {
                        waiting.forget();
                    }
                    waiting.end(Some(&why));
                }
                0
            }
        }
    }
}

/// Makes each change in a savepoint of the transaction, for as long as that may last.
fn each(connection: &Connection, group: &[Arc<dyn Waiting>]) -> Result<Rest, StoreError> {
    let Connection::Postgres(session) = connection else {
        return Err(StoreError::Closed);
    };
    let (began, mut rest) = (Instant::now(), Rest::default());
    let mut begin = "SAVEPOINT change";
    for (number, waiting) in group.iter().enumerate() {
        if number > 0 && began.elapsed() >= LONG {
            rest.left = group.len() - number;
            break;
        }
        session.batch(begin)?;
        begin = "RELEASE SAVEPOINT change; SAVEPOINT change";
        let stays = waiting.run(connection);
        match session.failure() {
            None if stays => continue,
            None => {}
            // What another was in the way of, or what it passed over, is run again where it stands alone.
            Some(Failure::Conflict) => rest.again.push(waiting.clone()),
            Some(Failure::Lasting) if stays => rest.again.push(waiting.clone()),
            // What went wrong with this one is no matter of the others.
            Some(Failure::Lasting) => {}
            // All of it is run again, or none of it can be.
            Some(Failure::Lost | Failure::Silent) => {
                return Err(StoreError::Engine("the database was lost".to_owned()));
            }
        }
        session.undo_change()?;
    }
    Ok(rest)
}
