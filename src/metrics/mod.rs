//! Metrics, for Prometheus: the registry, the handles that count, and what is read only when somebody asks.
//!
//! In come the calls of other rooms' own traits (a [`Meter`], two observers) and what stands around a store, an
//! evaluator and AMD's service; out comes OpenMetrics text. Those rooms know nothing of this one. Labels are words of
//! the program, each of few: patterns of paths, classes of reasons. Never an owner, a workload, an address or a name.
//!
//! [`Meter`]: crate::release::meter::Meter

mod certificates;
mod decisions;
mod evaluator;
mod kds;
mod process;
mod sources;
mod store;
mod traffic;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::isolation::Workers;
use crate::kds::{Queue, Service as CekService};
use crate::policy::Evaluator;
use crate::release::Service;
use crate::store::Store;
use decisions::Decisions;
use evaluator::Evaluations;
use kds::Requests;
use sources::Sources;
use store::Calls;
use traffic::{Grpc, Http};

pub use certificates::{CertificateFile, Shown, ShownCertificate};

/// Upper ends of histograms' buckets, in seconds.
const BUCKETS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Histograms of seconds, by labels.
type Times<L> = Family<L, Histogram, fn() -> Histogram>;

fn times<L: Clone + std::hash::Hash + Eq>() -> Times<L> {
    Family::new_with_constructor(|| Histogram::new(BUCKETS))
}

fn observe<L: Clone + std::hash::Hash + Eq>(times: &Times<L>, labels: &L, took: Duration) {
    times.get_or_create(labels).observe(took.as_secs_f64());
}

/// Everything that is measured of one server.
pub struct Metrics {
    registry: Registry,
    http: Arc<Http>,
    grpc: Arc<Grpc>,
    decisions: Arc<Decisions>,
    evaluations: Evaluations,
    calls: Calls,
    requests: Requests,
    sources: Arc<Sources>,
}

impl Metrics {
    /// Nothing was counted yet; the server's start is now.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        process::register(&mut registry);
        let own = registry.sub_registry_with_prefix("keyward");
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        own.register("build", "The version that runs", Info::new(version));
        let (http, grpc) = (Arc::new(Http::registered(own)), Arc::new(Grpc::registered(own)));
        let decisions = Arc::new(Decisions::registered(own));
        let evaluations = Evaluations::registered(own);
        let (calls, requests) = (Calls::registered(own), Requests::registered(own));
        let sources = Arc::new(Sources::default());
        own.register_collector(Box::new(sources.clone()));
        Self {
            registry,
            http,
            grpc,
            decisions,
            evaluations,
            calls,
            requests,
            sources,
        }
    }

    /// Who counts requests and connections of both APIs.
    #[must_use]
    pub fn http(&self) -> Arc<dyn crate::http::Observer> {
        self.http.clone()
    }

    /// Who counts calls and connections of simple-kbs's clients.
    #[must_use]
    pub fn grpc(&self) -> Arc<dyn crate::grpc::Observer> {
        self.grpc.clone()
    }

    /// Who counts decisions and what steps cost.
    #[must_use]
    pub fn meter(&self) -> Arc<dyn crate::release::meter::Meter> {
        self.decisions.clone()
    }

    /// The same store, each of whose calls is measured.
    #[must_use]
    pub fn around_store(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        store::around(store, self.calls.clone())
    }

    /// The same evaluator, each of whose evaluations is measured.
    #[must_use]
    pub fn around_evaluator(&self, evaluator: Arc<dyn Evaluator>) -> Arc<dyn Evaluator> {
        evaluator::around(evaluator, self.evaluations.clone())
    }

    /// The same key distribution service, each of whose answers is measured.
    #[must_use]
    pub fn around_kds(&self, service: Box<dyn CekService>) -> Box<dyn CekService> {
        kds::around(service, self.requests.clone())
    }

    /// From now on figures of these workers are read.
    pub fn watch_workers(&self, workers: &Arc<Workers>) {
        self.sources.workers(workers);
    }

    /// From now on the queue before AMD's service is looked at.
    pub fn watch_queue(&self, queue: &Arc<Queue>) {
        self.sources.queue(queue);
    }

    /// From now on the service is asked whether it is ready, and its store for figures.
    pub fn watch_service(&self, service: &Arc<Service>) {
        self.sources.service(service);
    }

    /// From now on it is read when these end.
    pub fn watch_certificates(&self, files: Vec<CertificateFile>) {
        self.sources.certificates(files);
    }

    /// Everything as it is now, as OpenMetrics text. Asks the store at most every few seconds.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            log::error!("metrics: they can't be written: {error}");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
