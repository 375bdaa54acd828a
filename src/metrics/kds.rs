//! Requests to AMD's key distribution service.

use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::BUCKETS;
use crate::kds::{FetchError, Service};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Said {
    result: &'static str,
}

#[derive(Clone)]
pub(super) struct Requests {
    requests: Family<Said, Counter>,
    duration: Histogram,
}

impl Requests {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let own = Self {
            requests: Family::default(),
            duration: Histogram::new(BUCKETS),
        };
        for result in ["found", "unknown-chip", "wait", "failed"] {
            drop(own.requests.get_or_create(&Said { result }));
        }
        registry.register(
            "kds_requests",
            "Requests to AMD's key distribution service, by result: found, unknown-chip, wait (it asked to be left alone) or failed",
            own.requests.clone(),
        );
        registry.register_with_unit(
            "kds_request_duration",
            "Time of one request to AMD's key distribution service",
            Unit::Seconds,
            own.duration.clone(),
        );
        own
    }
}

/// The same service, measured.
pub(super) fn around(inner: Box<dyn Service>, counted: Requests) -> Box<dyn Service> {
    Box::new(Measured { inner, counted })
}

struct Measured {
    inner: Box<dyn Service>,
    counted: Requests,
}

impl Service for Measured {
    fn fetch(&self, chip: &[u8; 64]) -> Result<Vec<u8>, FetchError> {
        let start = Instant::now();
        let fetched = self.inner.fetch(chip);
        self.counted.duration.observe(start.elapsed().as_secs_f64());
        let result = match &fetched {
            Ok(_) => "found",
            Err(FetchError::UnknownChip) => "unknown-chip",
            Err(FetchError::Wait(_)) => "wait",
            Err(FetchError::Failed(_)) => "failed",
        };
        self.counted.requests.get_or_create(&Said { result }).inc();
        fetched
    }
}
