//! The load itself: connections that ask, each on a thread, until the time or the number of requests is over.
//!
//! Open loop: request `n` is to begin at `n / rate`, whatever became of those before. A latency counts from there, so
//! that requests which had to wait for a slow answer are slow themselves (no coordinated omission). Closed loop: each
//! connection asks when it was answered; latencies count from the sending.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::ProgressBar;

use super::record::Record;
use super::target::Target;
use super::wire::{Server, Wire};

/// Connections in a row that may not come about before a run ends.
const HOPELESS: u32 = 8;
/// How long a connection waits before it is tried again.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest that `Retry-After` is heeded.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// How the load is made.
pub(super) struct Plan {
    /// Requests a second; none: closed loop.
    pub(super) rate: Option<f64>,
    pub(super) connections: usize,
    pub(super) warm_up: Duration,
    pub(super) duration: Duration,
    /// Requests that are begun, at most, those of the warm-up among them.
    pub(super) requests: Option<u64>,
    /// How often one request is tried again.
    pub(super) retries: u32,
}

impl Plan {
    /// Requests that this plan begins, where that is bounded by more than time.
    pub(super) fn most(&self) -> Option<u64> {
        let all = (self.warm_up + self.duration).as_secs_f64();
        let by_rate = self.rate.map(|rate| (all * rate).ceil() as u64);
        match (by_rate, self.requests) {
            (Some(rate), Some(requests)) => Some(rate.min(requests)),
            (one, other) => one.or(other),
        }
    }
}

/// What came of it.
pub(super) struct Outcome {
    /// One record for each kind of request of the mode.
    pub(super) records: Vec<Record>,
    /// How long was measured, without the warm-up.
    pub(super) measured: Duration,
    /// Open loop: requests whose time had come and that were never sent.
    pub(super) unsent: u64,
    /// Why the run ended before its time.
    pub(super) gone: Option<String>,
}

struct Shared<'a> {
    plan: &'a Plan,
    target: &'a Target,
    start: Instant,
    /// The next request's number.
    next: AtomicU64,
    ended: AtomicBool,
}

/// Runs the plan against the target.
pub(super) fn run(
    server: &Server,
    plan: &Plan,
    target: &Target,
    bar: &ProgressBar,
) -> anyhow::Result<Outcome> {
    let shared = Shared {
        plan,
        target,
        start: Instant::now(),
        next: AtomicU64::new(0),
        ended: AtomicBool::new(false),
    };
    let runs = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.connections)
            .map(|_| scope.spawn(|| Connection::new(server, &shared)?.run()))
            .collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::park_timeout(Duration::from_millis(20));
            bar.set_position(u64::try_from(shared.start.elapsed().as_millis()).unwrap_or(u64::MAX));
        }
        let joined = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined.collect::<Vec<_>>()
    });
    let begun = shared.start + plan.warm_up;
    let mut outcome = Outcome {
        records: (target.steps().iter().map(|_| Record::new())).collect::<Result<_, _>>()?,
        measured: Duration::ZERO,
        unsent: 0,
        gone: None,
    };
    for run in runs {
        let run = run.map_err(|_| anyhow::anyhow!("a connection's thread failed"))??;
        for (sum, record) in outcome.records.iter_mut().zip(run.records) {
            sum.add(record)?;
        }
        let until = run.last.saturating_duration_since(begun);
        outcome.measured = outcome.measured.max(until);
        outcome.gone = outcome.gone.take().or(run.gone);
    }
    if let (Some(most), None) = (plan.rate.and(plan.most()), &outcome.gone) {
        let most = target.available().map_or(most, |available| most.min(available));
        outcome.unsent = most.saturating_sub(shared.next.load(Ordering::Relaxed));
    }
    Ok(outcome)
}

struct Ran {
    records: Vec<Record>,
    last: Instant,
    gone: Option<String>,
}

struct Connection<'a> {
    shared: &'a Shared<'a>,
    server: &'a Server,
    wire: Wire<'a>,
    records: Vec<Record>,
    failed_in_a_row: u32,
    gone: Option<String>,
}

impl<'a> Connection<'a> {
    fn new(server: &'a Server, shared: &'a Shared<'a>) -> anyhow::Result<Self> {
        let records = shared.target.steps().iter().map(|_| Record::new());
        Ok(Self {
            shared,
            server,
            wire: Wire::new(server),
            records: records.collect::<Result<_, _>>().context("a histogram")?,
            failed_in_a_row: 0,
            gone: None,
        })
    }

    fn run(mut self) -> anyhow::Result<Ran> {
        let mut last = Instant::now();
        while let Some((number, intended)) = self.begin() {
            self.one(number, intended)?;
            last = Instant::now();
        }
        Ok(Ran {
            records: self.records,
            last,
            gone: self.gone,
        })
    }

    /// Takes the next request's number, and waits for its time.
    fn begin(&self) -> Option<(u64, Instant)> {
        let Shared { plan, start, .. } = self.shared;
        let end = *start + plan.warm_up + plan.duration;
        let now = Instant::now();
        if self.shared.ended.load(Ordering::Relaxed) || now >= end {
            return None;
        }
        let claimed = self
            .shared
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                let most = [self.shared.target.available(), plan.most()];
                let wanted = most.into_iter().flatten().all(|most| next < most);
                wanted.then_some(next + 1)
            });
        let number = claimed.ok()?;
        let Some(rate) = plan.rate else {
            return Some((number, now));
        };
        let offset = Duration::from_micros(number).mul_f64(1e6 / rate);
        let intended = *start + offset;
        std::thread::sleep(intended.saturating_duration_since(Instant::now()));
        Some((number, intended))
    }

    fn is_measured(&self, intended: Instant) -> bool {
        intended >= self.shared.start + self.shared.plan.warm_up
    }

    /// All requests of one launch of the mode, the first of which should have begun at `intended`.
    fn one(&mut self, number: u64, intended: Instant) -> anyhow::Result<()> {
        let measured = self.is_measured(intended);
        let mut play = self.shared.target.play(self.server, number)?;
        let mut since = intended;
        for step in 0.. {
            let Some(request) = play.request() else { break };
            let Some(body) = self.asked(&request, step, measured) else {
                return Ok(());
            };
            let now = Instant::now();
            if measured && let Some(record) = self.records.get_mut(step) {
                record.done(now.duration_since(since));
            }
            play.answered(&body)?;
            since = Instant::now();
        }
        // A whole flow is one more kind, from the beginning to the last answer.
        if measured
            && self.shared.target.is_flow()
            && let Some(record) = self.records.last_mut()
        {
            record.done(intended.elapsed());
        }
        Ok(())
    }

    /// The answer's body, tried again where that may help; none: it failed.
    fn asked(&mut self, request: &[u8], step: usize, measured: bool) -> Option<zeroize::Zeroizing<Vec<u8>>> {
        let mut tries = 0;
        loop {
            let asked = self.wire.ask(request);
            let (why, wait) = match asked {
                Ok(answer) if answer.status == 200 => {
                    self.failed_in_a_row = 0;
                    return Some(answer.body);
                }
                Ok(answer) => {
                    self.failed_in_a_row = 0;
                    let busy = matches!(answer.status, 429 | 503);
                    let wait =
                        busy.then(|| Duration::from_secs(answer.retry_after.unwrap_or(0)).min(LONGEST_WAIT));
                    (answer.status.to_string(), wait)
                }
                Err(error) => {
                    self.failed_in_a_row += 1;
                    if self.failed_in_a_row >= HOPELESS {
                        self.gone = Some(error.to_string());
                        self.shared.ended.store(true, Ordering::Relaxed);
                    }
                    ("connection".to_owned(), Some(PAUSE))
                }
            };
            let over = self.shared.ended.load(Ordering::Relaxed);
            let again = wait.filter(|_| tries < self.shared.plan.retries && !over);
            let record = self.records.get_mut(step)?;
            let Some(wait) = again else {
                if measured {
                    record.failed(why);
                }
                if let (Some(pause), false) = (wait.filter(|_| self.failed_in_a_row > 0), over) {
                    std::thread::sleep(pause);
                }
                return None;
            };
            if measured {
                record.retried();
            }
            tries += 1;
            std::thread::sleep(wait);
        }
    }
}
