//! One request in flight for a chip, a bounded queue, and a service that is left alone when it asks to be.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::allowance::Allowance;
use super::{CekError, CekSource, FetchError, Service};

/// Requests to the service at once, for different chips.
const WORKERS: usize = 4;
/// How long a result stays at hand, so that a host that was told to come back finds it.
const KEPT: Duration = Duration::from_secs(60);
/// Callers that wait at once, in all and of one address: each holds a thread.
const WAITERS: (usize, usize) = (128, 32);
/// Results kept for each place in the queue, at most; the oldest give way.
const KEPT_PER_PLACE: usize = 16;
/// How long a chip is not asked for again after the service failed.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

type Chip = [u8; 64];

/// Bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How long a caller waits.
    pub wait: Duration,
    /// Chips asked for at once and waiting to be, at least one.
    pub total: usize,
    /// The same for one address.
    pub per_address: usize,
    /// Chips that one address may ask the service for in ten minutes, at least one.
    pub chips_per_address: u32,
}

/// A service behind a queue.
pub struct Queue {
    shared: Arc<Shared>,
    jobs: SyncSender<Chip>,
    bounds: Bounds,
}

struct Shared {
    service: Box<dyn Service>,
    state: Mutex<State>,
    done: Condvar,
}

struct State {
    flights: HashMap<Chip, Flight>,
    /// Callers that wait, by address.
    waiters: HashMap<String, usize>,
    allowance: Allowance,
    /// The service asked to be left alone until then.
    silent_until: Option<Instant>,
}

impl State {
    /// Gives up the result that was at hand longest: whoever asked for many chips must not keep
    /// others from asking for one.
    fn forget_oldest(&mut self) {
        let finished = self
            .flights
            .iter()
            .filter_map(|(chip, flight)| Some((flight.result.as_ref()?.0, *chip)));
        if let Some((_, oldest)) = finished.min() {
            self.flights.remove(&oldest);
        }
    }
}

struct Flight {
    bucket: String,
    result: Option<(Instant, Result<Vec<u8>, FetchError>)>,
}

impl Flight {
    fn under_way(&self) -> bool {
        self.result.is_none()
    }

    /// Whether its result is still worth giving.
    fn fresh(&self, now: Instant) -> bool {
        match &self.result {
            None => true,
            Some((since, Ok(_) | Err(FetchError::UnknownChip))) => now.duration_since(*since) < KEPT,
            Some((since, Err(FetchError::Failed(_)))) => now.duration_since(*since) < AFTER_FAILURE,
            // Long enough for those who wait to read it; `silent_until` keeps the rest away.
            Some((since, Err(FetchError::Wait(_)))) => now.duration_since(*since) < Duration::from_secs(2),
        }
    }
}

impl Queue {
    /// Starts the workers.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(service: Box<dyn Service>, bounds: Bounds) -> std::io::Result<Self> {
        let bounds = Bounds {
            total: bounds.total.max(1),
            per_address: bounds.per_address.max(1),
            ..bounds
        };
        let (jobs, waiting) = sync_channel(bounds.total);
        let waiting = Arc::new(Mutex::new(waiting));
        let shared = Arc::new(Shared {
            service,
            state: Mutex::new(State {
                flights: HashMap::new(),
                waiters: HashMap::new(),
                allowance: Allowance::of(bounds.chips_per_address),
                silent_until: None,
            }),
            done: Condvar::new(),
        });
        for number in 0..WORKERS {
            let (shared, waiting) = (shared.clone(), waiting.clone());
            let name = format!("kds-{number}");
            std::thread::Builder::new()
                .name(name)
                .spawn(move || shared.work(&waiting))?;
        }
        Ok(Self { shared, jobs, bounds })
    }

    /// Puts the chip in the queue unless it is there, or a fresh result is at hand.
    fn enqueue(&self, state: &mut State, chip: &Chip, bucket: &str) -> Result<(), CekError> {
        let now = Instant::now();
        let busy = |retry_after: Duration, why: &str| CekError::Unavailable {
            retry_after,
            why: why.to_owned(),
        };
        state.flights.retain(|_, flight| flight.fresh(now));
        if state.flights.contains_key(chip) {
            return Ok(());
        }
        if let Some(until) = state.silent_until.filter(|until| *until > now) {
            return Err(busy(until - now, "it asked to be left alone for a while"));
        }
        let under_way = || state.flights.values().filter(|flight| flight.under_way());
        if under_way().count() >= self.bounds.total {
            return Err(busy(AFTER_FAILURE, "too many chips are being asked for"));
        }
        if under_way().filter(|flight| flight.bucket == bucket).count() >= self.bounds.per_address {
            return Err(busy(AFTER_FAILURE, "this address is asking for too many chips"));
        }
        if let Err(left) = state.allowance.check(bucket, now) {
            return Err(busy(left, "this address asked for too many chips"));
        }
        if self.jobs.try_send(*chip).is_err() {
            return Err(busy(AFTER_FAILURE, "too many chips are being asked for"));
        }
        state.allowance.charge(bucket, now);
        if state.flights.len() >= KEPT_PER_PLACE * self.bounds.total {
            state.forget_oldest();
        }
        state.flights.insert(
            *chip,
            Flight {
                bucket: bucket.to_owned(),
                result: None,
            },
        );
        Ok(())
    }
}

impl CekSource for Queue {
    fn cek(&self, chip: &[u8; 64], bucket: &str) -> Result<Vec<u8>, CekError> {
        let mut state = self.shared.lock();
        self.enqueue(&mut state, chip, bucket)?;
        if let Some(Some((_, result))) = state.flights.get(chip).map(|flight| &flight.result) {
            return outcome(result);
        }
        let own = state.waiters.get(bucket).copied().unwrap_or(0);
        if own >= WAITERS.1 || state.waiters.values().sum::<usize>() >= WAITERS.0 {
            let why = "too many launches wait for it".to_owned();
            return Err(CekError::Unavailable {
                retry_after: AFTER_FAILURE,
                why,
            });
        }
        *state.waiters.entry(bucket.to_owned()).or_insert(0) += 1;
        let (mut state, result) = self.wait(state, chip);
        match state.waiters.get_mut(bucket) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                state.waiters.remove(bucket);
            }
        }
        result
    }
}

impl Queue {
    /// Chips that are asked for, or wait to be.
    #[must_use]
    pub fn under_way(&self) -> usize {
        let state = self.shared.lock();
        state.flights.values().filter(|flight| flight.under_way()).count()
    }

    /// Waits for the flight of a chip to end, as long as a caller waits at most.
    fn wait<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        chip: &Chip,
    ) -> (MutexGuard<'a, State>, Result<Vec<u8>, CekError>) {
        let deadline = Instant::now() + self.bounds.wait;
        let unavailable = |retry_after: Duration, why: &str| {
            Err(CekError::Unavailable {
                retry_after,
                why: why.to_owned(),
            })
        };
        loop {
            match state.flights.get(chip).map(|flight| &flight.result) {
                Some(Some((_, result))) => {
                    let result = outcome(result);
                    return (state, result);
                }
                None => return (state, unavailable(AFTER_FAILURE, "it failed")),
                Some(None) => {}
            }
            let left = deadline
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero());
            let Some(left) = left else {
                let later = self.bounds.wait.max(Duration::from_secs(1));
                return (state, unavailable(later, "it has not answered yet"));
            };
            state = match self.shared.done.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

fn outcome(result: &Result<Vec<u8>, FetchError>) -> Result<Vec<u8>, CekError> {
    match result {
        Ok(certificate) => Ok(certificate.clone()),
        Err(FetchError::UnknownChip) => Err(CekError::UnknownChip),
        Err(FetchError::Wait(retry_after)) => Err(CekError::Unavailable {
            retry_after: *retry_after,
            why: "it limits how often it is asked".to_owned(),
        }),
        // What exactly failed is in the log: a host learns nothing of this server's network.
        Err(FetchError::Failed(_)) => Err(CekError::Unavailable {
            retry_after: AFTER_FAILURE,
            why: "it does not answer as it should".to_owned(),
        }),
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, waiting: &Mutex<Receiver<Chip>>) {
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(chip) = next else { return };
            // What queued up behind an answer «wait» is not asked: it gets that answer too.
            let silent = self
                .lock()
                .silent_until
                .and_then(|until| until.checked_duration_since(Instant::now()));
            let result = match silent {
                Some(left) if !left.is_zero() => Err(FetchError::Wait(left)),
                _ => catch_unwind(AssertUnwindSafe(|| self.service.fetch(&chip)))
                    .unwrap_or_else(|_| Err(FetchError::Failed("the request failed inside".to_owned()))),
            };
            let mut state = self.lock();
            let now = Instant::now();
            if let Err(FetchError::Wait(wait)) = &result {
                state.silent_until = Some(now + *wait);
            }
            if let Err(FetchError::Failed(why)) = &result {
                log::warn!("the key distribution service failed: {why}");
            }
            if let Some(flight) = state.flights.get_mut(&chip) {
                flight.result = Some((now, result));
            }
            self.done.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Barrier, mpsc};

    /// Answers each request with what the test sends.
    struct Scripted {
        asked: Arc<AtomicUsize>,
        answers: Mutex<mpsc::Receiver<Result<Vec<u8>, FetchError>>>,
    }

    impl Service for Scripted {
        fn fetch(&self, _: &[u8; 64]) -> Result<Vec<u8>, FetchError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.answers
                .lock()
                .unwrap()
                .recv()
                .unwrap_or(Err(FetchError::Failed("over".to_owned())))
        }
    }

    type Answers = mpsc::Sender<Result<Vec<u8>, FetchError>>;

    fn queue(wait: Duration) -> (Queue, Answers, Arc<AtomicUsize>) {
        let (sender, answers) = mpsc::channel();
        let asked = Arc::new(AtomicUsize::new(0));
        let service = Scripted {
            asked: asked.clone(),
            answers: Mutex::new(answers),
        };
        let bounds = Bounds {
            wait,
            total: 4,
            per_address: 2,
            chips_per_address: 100,
        };
        (Queue::start(Box::new(service), bounds).unwrap(), sender, asked)
    }

    #[test]
    fn many_callers_for_one_chip_make_one_request() {
        let (queue, answers, asked) = queue(Duration::from_secs(30));
        let barrier = Barrier::new(9);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    barrier.wait();
                    assert_eq!(queue.cek(&[1; 64], "a"), Ok(vec![7]));
                });
            }
            barrier.wait();
            answers.send(Ok(vec![7])).unwrap();
        });
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_caller_does_not_wait_for_ever_and_finds_the_answer_when_it_comes_back() {
        let (queue, answers, asked) = queue(Duration::from_millis(20));
        assert!(matches!(
            queue.cek(&[1; 64], "a"),
            Err(CekError::Unavailable { .. })
        ));
        answers.send(Ok(vec![7])).unwrap();
        let found = std::iter::repeat_with(|| queue.cek(&[1; 64], "a"))
            .take(500)
            .find(Result::is_ok);
        assert_eq!(found, Some(Ok(vec![7])));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn retry_after_silences_the_service_for_every_chip() {
        let (queue, answers, asked) = queue(Duration::from_secs(30));
        answers
            .send(Err(FetchError::Wait(Duration::from_secs(77))))
            .unwrap();
        for chip in 1..4 {
            let Err(CekError::Unavailable { retry_after, .. }) = queue.cek(&[chip; 64], "a") else {
                panic!("chip {chip} was answered");
            };
            assert!(retry_after > Duration::from_secs(60) && retry_after <= Duration::from_secs(77));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn one_address_can_not_fill_the_queue() {
        let (queue, _answers, _) = queue(Duration::ZERO);
        for chip in 0..2 {
            assert!(
                matches!(queue.cek(&[chip; 64], "a"), Err(CekError::Unavailable { why, .. }) if why.contains("not answered"))
            );
        }
        assert!(
            matches!(queue.cek(&[2; 64], "a"), Err(CekError::Unavailable { why, .. }) if why.contains("address"))
        );
        assert!(
            matches!(queue.cek(&[2; 64], "b"), Err(CekError::Unavailable { why, .. }) if why.contains("not answered"))
        );
    }
}
