//! What is read only when somebody asks: the store's figures, workers, the queue before AMD's service, certificates.
//!
//! Figures of the store and certificates are kept for a while, so that whoever asks often costs no more.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::CertificateFile;
use crate::domain::Time;
use crate::isolation::Workers;
use crate::kds::Queue;
use crate::release::Service;
use crate::store::Figures;

/// How long figures are kept.
const KEPT: Duration = Duration::from_secs(5);

/// Whom to ask. A service is not held: it ends with the server, not with its metrics.
#[derive(Default)]
pub(super) struct Sources {
    workers: OnceLock<Arc<Workers>>,
    queue: OnceLock<Arc<Queue>>,
    service: OnceLock<Weak<Service>>,
    certificates: OnceLock<Vec<CertificateFile>>,
    read: Mutex<Option<(Instant, Read)>>,
}

/// What is kept.
#[derive(Clone, Default)]
struct Read {
    ready: bool,
    /// As of when, in the server's time; none where the store does not answer.
    figures: Option<(Time, Figures)>,
    /// What ends when, and whether a newer one of it was refused.
    ends: Vec<(&'static str, i64, Option<bool>)>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

impl Sources {
    pub(super) fn workers(&self, workers: &Arc<Workers>) {
        let _ = self.workers.set(workers.clone());
    }

    pub(super) fn queue(&self, queue: &Arc<Queue>) {
        let _ = self.queue.set(queue.clone());
    }

    pub(super) fn service(&self, service: &Arc<Service>) {
        let _ = self.service.set(Arc::downgrade(service));
    }

    pub(super) fn certificates(&self, files: Vec<CertificateFile>) {
        let _ = self.certificates.set(files);
    }

    /// What was read a moment ago, or is read now; who asks meanwhile waits for that.
    fn read(&self) -> Read {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, kept)) = read.as_ref()
            && at.elapsed() < KEPT
        {
            return kept.clone();
        }
        let fresh = self.read_now();
        *read = Some((Instant::now(), fresh.clone()));
        fresh
    }

    fn read_now(&self) -> Read {
        let files = self.certificates.get().into_iter().flatten();
        let ends = files
            .filter_map(|file| {
                let (end, refused) = file.read()?;
                Some((file.name, end, refused))
            })
            .collect();
        let Some(service) = self.service.get().and_then(Weak::upgrade) else {
            return Read {
                ends,
                ..Read::default()
            };
        };
        let now = service.now();
        let figures = service.store().figures(now);
        let figures = figures.inspect_err(|error| log::error!("metrics: {error}"));
        Read {
            ready: service.store().ping().is_ok() && service.log_fault().is_none(),
            figures: figures.ok().map(|figures| (now, figures)),
            ends,
        }
    }
}

/// One gauge without labels.
pub(super) fn gauge<N: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: N,
) -> fmt::Result {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
}

/// When certificates end, and whether newer ones were refused.
fn of_certificates(
    encoder: &mut DescriptorEncoder<'_>,
    ends: &[(&'static str, i64, Option<bool>)],
) -> fmt::Result {
    if ends.is_empty() {
        return Ok(());
    }
    let help = "When the first certificate ends that a listener shows, or that is in a file of the configuration (of client-crl: when the next list is due), in seconds since 1970-01-01T00:00:00Z, by what it is.";
    let name = "certificate_expiry_timestamp";
    let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
    for (name, end, _) in ends {
        let labels = [("certificate", *name)];
        ConstGauge::new(*end).encode(family.encode_family(&labels)?)?;
    }
    if ends.iter().all(|(_, _, refused)| refused.is_none()) {
        return Ok(());
    }
    let help = "1 where a listener's files were read again and could not be used, so that it shows what it showed before, else 0.";
    let name = "certificate_reload_refused";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (name, _, refused) in ends {
        if let Some(refused) = refused {
            let labels = [("certificate", *name)];
            ConstGauge::new(u64::from(*refused)).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let read = self.read();
        let ready = "1 where /readyz says ready, else 0.";
        gauge(&mut encoder, "ready", ready, None, u64::from(read.ready))?;
        if let Some((now, figures)) = &read.figures {
            of_store(&mut encoder, *now, figures)?;
        }
        of_certificates(&mut encoder, &read.ends)?;
        if let Some(queue) = self.queue.get() {
            let help = "Chips that AMD's key distribution service is asked for, or is to be.";
            gauge(&mut encoder, "kds_queue_length", help, None, queue.under_way())?;
        }
        self.workers
            .get()
            .map_or(Ok(()), |workers| of_workers(&mut encoder, workers))
    }
}

fn of_store(encoder: &mut DescriptorEncoder<'_>, now: Time, figures: &Figures) -> fmt::Result {
    let age = |time: Option<Time>| time.map_or(0, |time| now.seconds_since(time));
    for (name, help, unit, value) in [
        (
            "holds_open",
            "Holds that wait for a person.",
            None,
            figures.open_holds,
        ),
        (
            "holds_oldest_age",
            "How long the oldest open hold waits; 0: there is none.",
            Some(&Unit::Seconds),
            age(figures.oldest_hold),
        ),
        (
            "launches_pending",
            "Launches that may still be validated.",
            None,
            figures.pending_launches,
        ),
        (
            "guest_connections_open",
            "Connections of measured guests (simple-kbs) that may still be asked over.",
            None,
            figures.open_connections,
        ),
        (
            "audit_log_size",
            "Records of the audit log that have their place in it.",
            None,
            figures.log_size,
        ),
        (
            "audit_records_pending",
            "Records of the audit log that wait for their place.",
            None,
            figures.log_pending,
        ),
        (
            "audit_sequencer_lag",
            "How long the oldest of them waits; 0: there is none.",
            Some(&Unit::Seconds),
            age(figures.oldest_pending),
        ),
        (
            "audit_records_unsigned",
            "Records of the audit log that no checkpoint counts yet.",
            None,
            figures.log_size.saturating_sub(figures.checkpoint_size),
        ),
        (
            "audit_checkpoint_age",
            "How long ago the newest checkpoint was signed; one is only where the log grew. 0: there is none.",
            Some(&Unit::Seconds),
            age(figures.checkpoint),
        ),
    ] {
        gauge(encoder, name, help, unit, value)?;
    }
    Ok(())
}

fn of_workers(encoder: &mut DescriptorEncoder<'_>, workers: &Workers) -> fmt::Result {
    let figures = workers.figures();
    let started = ConstCounter::new(figures.started);
    let help = "Processes that were started to evaluate policies.";
    started.encode(encoder.encode_descriptor(
        "policy_workers_started",
        help,
        None,
        started.metric_type(),
    )?)?;
    let help = "Processes that ended by what they evaluated: died (of their memory or stack) or ended, as they did not answer in time (time-limit).";
    let mut family = encoder.encode_descriptor("policy_workers_lost", help, None, MetricType::Counter)?;
    for (reason, count) in [("died", figures.died), ("time-limit", figures.timed_out)] {
        let labels = [("reason", reason)];
        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
    }
    let help = "Processes that evaluate a policy now.";
    gauge(encoder, "policy_workers_busy", help, None, figures.busy)?;
    let help = "Requests that wait for one of them.";
    gauge(encoder, "policy_requests_waiting", help, None, figures.waiting)
}
