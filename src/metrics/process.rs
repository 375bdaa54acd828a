//! The process, under the names that every exporter gives these: memory, time on processors, files, its start.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::{Registry, Unit};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::sources::gauge;
use crate::domain::{Clock as _, SystemClock};

pub(super) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Process {
        start: SystemClock.now().millis() / 1000,
    }));
}

#[derive(Debug)]
struct Process {
    /// Seconds since 1970-01-01T00:00:00Z.
    start: i64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let started = "When the server started, in seconds since 1970-01-01T00:00:00Z.";
        gauge(
            encoder,
            "process_start_time",
            started,
            Some(&Unit::Seconds),
            self.start,
        )?;
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let used = ConstCounter::new(seconds(used.tv_sec, used.tv_nsec));
        let help = "Time on processors, without that of the workers that evaluate policies.";
        used.encode(encoder.encode_descriptor(
            "process_cpu",
            help,
            Some(&Unit::Seconds),
            used.metric_type(),
        )?)?;
        if let Some(bytes) = resident() {
            let help = "Memory that is in use, without that of the workers that evaluate policies.";
            gauge(
                encoder,
                "process_resident_memory",
                help,
                Some(&Unit::Bytes),
                bytes,
            )?;
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            let help = "File descriptors that are open.";
            gauge(encoder, "process_open_fds", help, None, files.count())?;
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            let help = "File descriptors that may be open.";
            gauge(encoder, "process_max_fds", help, None, most)?;
        }
        Ok(())
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a process uses no 2^53 seconds, and nanoseconds are below 10^9"
)]
fn seconds(whole: i64, nanos: i64) -> f64 {
    whole as f64 + nanos as f64 / 1e9
}

/// Resident memory in bytes.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
