//! What is counted of each kind of request, by each connection apart, and brought together at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency that is told from longer ones, in microseconds.
const LONGEST: u64 = 600_000_000;

/// One kind of request.
pub(super) struct Record {
    /// Latencies of requests that were answered as they should be, in microseconds.
    latencies: Histogram<u64>,
    errors: BTreeMap<String, u64>,
    retries: u64,
}

impl Record {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            latencies: Histogram::new_with_bounds(1, LONGEST, 3)?,
            errors: BTreeMap::new(),
            retries: 0,
        })
    }

    pub(super) fn done(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latencies.saturating_record(micros.clamp(1, LONGEST));
    }

    /// One that failed: by its status, or how the connection did.
    pub(super) fn failed(&mut self, why: String) {
        *self.errors.entry(why).or_default() += 1;
    }

    pub(super) fn retried(&mut self) {
        self.retries += 1;
    }

    pub(super) fn add(&mut self, other: Self) -> anyhow::Result<()> {
        self.latencies.add(other.latencies)?;
        for (why, count) in other.errors {
            *self.errors.entry(why).or_default() += count;
        }
        self.retries += other.retries;
        Ok(())
    }

    pub(super) fn report(&self, step: &'static str, measured: Duration) -> Step {
        let millis = |micros: u64| f64::from(u32::try_from(micros).unwrap_or(u32::MAX)) / 1000.0;
        let at = |quantile: f64| millis(self.latencies.value_at_quantile(quantile));
        let done = self.latencies.len();
        Step {
            step,
            done,
            per_second: rate(done, measured),
            latency_ms: Latency {
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p99_9: at(0.999),
                max: millis(self.latencies.max()),
            },
            errors: self.errors.clone(),
            retries: self.retries,
        }
    }
}

/// How many a second.
pub(super) fn rate(count: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds <= 0.0 {
        return 0.0;
    }
    Duration::from_micros(count).as_secs_f64() * 1e6 / seconds
}

/// One kind of request, as it is told.
#[derive(Serialize)]
pub(super) struct Step {
    pub(super) step: &'static str,
    /// Those that were answered as they should be.
    pub(super) done: u64,
    pub(super) per_second: f64,
    pub(super) latency_ms: Latency,
    /// Those that were not, by status or by how the connection failed.
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) retries: u64,
}

/// Milliseconds; open loop: from when the request should have begun.
#[derive(Serialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p99_9: f64,
    pub(super) max: f64,
}
