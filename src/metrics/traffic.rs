//! Requests and connections.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::{Times, observe, times};
use crate::grpc::{self, Arrival};
use crate::http::{self, Answered};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    route: String,
    method: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
    method: &'static str,
}

/// Requests over HTTP.
pub(super) struct Http {
    requests: Family<Request, Counter>,
    duration: Times<Route>,
    in_flight: Gauge,
    limited: Family<Route, Counter>,
    connections: Counter,
    open: Gauge,
}

impl Http {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let own = Self {
            requests: Family::default(),
            duration: times(),
            in_flight: Gauge::default(),
            limited: Family::default(),
            connections: Counter::default(),
            open: Gauge::default(),
        };
        registry.register(
            "http_requests",
            "Requests of both APIs that were answered, by path pattern, method and class of status",
            own.requests.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "Time from a request's head to its answer's",
            Unit::Seconds,
            own.duration.clone(),
        );
        registry.register(
            "http_requests_in_flight",
            "Requests that are worked on",
            own.in_flight.clone(),
        );
        registry.register(
            "http_rate_limited",
            "Requests that were answered with 429, by path pattern and method",
            own.limited.clone(),
        );
        registry.register(
            "http_connections",
            "Connections that were made, with TLS where there is any",
            own.connections.clone(),
        );
        registry.register(
            "http_connections_open",
            "Connections that are open",
            own.open.clone(),
        );
        own
    }
}

/// The pattern without the router's own signs.
fn plain(route: Option<&'static str>) -> String {
    route.unwrap_or("none").replace(":.+}", "}")
}

fn class(status: u16) -> &'static str {
    match status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

impl http::Observer for Http {
    fn began(&self) {
        self.in_flight.inc();
    }

    fn ended(&self) {
        self.in_flight.dec();
    }

    fn answered(&self, answered: Answered) {
        let route = Route {
            route: plain(answered.route),
            method: answered.method,
        };
        observe(&self.duration, &route, answered.took);
        if answered.status == 429 {
            self.limited.get_or_create(&route).inc();
        }
        let request = Request {
            route: route.route,
            method: route.method,
            status: class(answered.status),
        };
        self.requests.get_or_create(&request).inc();
    }

    fn connected(&self) {
        self.connections.inc();
        self.open.inc();
    }

    fn disconnected(&self) {
        self.open.dec();
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    call: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    call: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Came {
    result: &'static str,
}

/// Calls of simple-kbs's clients.
pub(super) struct Grpc {
    calls: Family<Call, Counter>,
    duration: Times<Named>,
    in_flight: Gauge,
    connections: Family<Came, Counter>,
}

impl Grpc {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let own = Self {
            calls: Family::default(),
            duration: times(),
            in_flight: Gauge::default(),
            connections: Family::default(),
        };
        for arrival in [Arrival::Accepted, Arrival::Refused, Arrival::HandshakeFailed] {
            drop(own.connections.get_or_create(&came(arrival)));
        }
        registry.register(
            "grpc_calls",
            "Calls of simple-kbs clients that were answered, by name and gRPC status code",
            own.calls.clone(),
        );
        registry.register_with_unit(
            "grpc_call_duration",
            "Time from a call's message to its answer",
            Unit::Seconds,
            own.duration.clone(),
        );
        registry.register(
            "grpc_calls_in_flight",
            "Calls that are worked on",
            own.in_flight.clone(),
        );
        registry.register(
            "grpc_connections",
            "Connections of simple-kbs clients, by what became of them: accepted, refused as there were too many, or a TLS handshake that failed",
            own.connections.clone(),
        );
        own
    }
}

fn came(arrival: Arrival) -> Came {
    let result = match arrival {
        Arrival::Accepted => "accepted",
        Arrival::Refused => "refused",
        Arrival::HandshakeFailed => "handshake-failed",
    };
    Came { result }
}

impl grpc::Observer for Grpc {
    fn began(&self) {
        self.in_flight.inc();
    }

    fn ended(&self) {
        self.in_flight.dec();
    }

    fn answered(&self, call: &'static str, code: &'static str, took: Duration) {
        self.calls.get_or_create(&Call { call, code }).inc();
        observe(&self.duration, &Named { call }, took);
    }

    fn arrived(&self, arrival: Arrival) {
        self.connections.get_or_create(&came(arrival)).inc();
    }
}
