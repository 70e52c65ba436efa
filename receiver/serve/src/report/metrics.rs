//! Metrics, in the text format of Prometheus.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use hyper::StatusCode;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// All metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answer, Counter>,
    sent: Family<Kind, Counter>,
    seconds: Histogram,
    /// Open connections.
    pub(crate) connections: Gauge,
    accepted: Family<Protocol, Counter>,
    ended: Family<Why, Counter>,
    certificates: Family<Outcome, Counter>,
    /// Pulls being answered.
    pub(crate) open_pulls: Gauge,
    pulls: Family<Way, Counter>,
    /// Objects that pulls took.
    pub(crate) pulled_objects: Counter,
    /// Lines of the access log dropped because no one read them in time.
    pub(crate) log_dropped: Gauge,
    /// When the summary was last modified.
    pub(crate) summary_modified: Gauge<f64, AtomicU64>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answer {
    kind: &'static str,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Protocol {
    protocol: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Why {
    reason: Ended,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Way {
    outcome: Pull,
}

/// How a pull ended.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelValue)]
pub(crate) enum Pull {
    /// The client got everything, or nothing was to be sent.
    Sent,
    /// The client's request is none.
    Refused,
    /// The repository could not be read, or too much of it was asked for.
    Failed,
    /// The client was gone.
    Left,
}

/// Why the server ended a connection.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelValue)]
pub(crate) enum Ended {
    /// Its address has reached the limit.
    Address,
    /// The TLS handshake failed, or took too long.
    Handshake,
    /// It never sent a request.
    Silent,
    /// It did not take its answer.
    Stalled,
    /// Its bytes are not HTTP.
    Protocol,
}

impl Metrics {
    /// The content type of [`text`](Self::text).
    pub(crate) const CONTENT_TYPE: &str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";

    pub(crate) fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("artifact_cache_serve");
        let metrics = Self {
            requests: Family::default(),
            sent: Family::default(),
            seconds: Histogram::new(SECONDS),
            connections: Gauge::default(),
            accepted: Family::default(),
            ended: Family::default(),
            certificates: Family::default(),
            open_pulls: Gauge::default(),
            pulls: Family::default(),
            pulled_objects: Counter::default(),
            log_dropped: Gauge::default(),
            summary_modified: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register(
            "requests",
            "Requests answered, by what was asked for and the status",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "sent",
            "Bytes of bodies sent, by what was asked for",
            Unit::Bytes,
            metrics.sent.clone(),
        );
        registry.register_with_unit(
            "request",
            "Time from a request to the end of its answer",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        registry.register(
            "open_connections",
            "Connections that are open",
            metrics.connections.clone(),
        );
        registry.register(
            "connections",
            "Connections served, by protocol",
            metrics.accepted.clone(),
        );
        registry.register(
            "connections_ended",
            "Connections ended by the server, by reason",
            metrics.ended.clone(),
        );
        registry.register(
            "certificate_loads",
            "Times the certificate was read, by outcome",
            metrics.certificates.clone(),
        );
        registry.register(
            "open_pulls",
            "Pulls being answered",
            metrics.open_pulls.clone(),
        );
        registry.register(
            "pulls",
            "Pulls answered, by how they ended",
            metrics.pulls.clone(),
        );
        registry.register(
            "pulled_objects",
            "Objects that pulls took",
            metrics.pulled_objects.clone(),
        );
        registry.register(
            "log_lines_dropped",
            "Lines of the access log that nobody read in time",
            metrics.log_dropped.clone(),
        );
        registry.register_with_unit(
            "summary_modified_timestamp",
            "When the summary was last modified, since 1970",
            Unit::Seconds,
            metrics.summary_modified.clone(),
        );
        Arc::new(Self {
            registry,
            ..metrics
        })
    }

    pub(crate) fn request(&self, kind: &'static str, status: StatusCode, sent: u64, seconds: f64) {
        let status = status.as_u16();
        self.requests.get_or_create(&Answer { kind, status }).inc();
        self.sent.get_or_create(&Kind { kind }).inc_by(sent);
        self.seconds.observe(seconds);
    }

    pub(crate) fn accepted(&self, protocol: &'static str) {
        self.accepted.get_or_create(&Protocol { protocol }).inc();
    }

    pub(crate) fn ended(&self, reason: Ended) {
        self.ended.get_or_create(&Why { reason }).inc();
    }

    pub(crate) fn certificate(&self, good: bool) {
        let outcome = if good { "good" } else { "refused" };
        self.certificates.get_or_create(&Outcome { outcome }).inc();
    }

    pub(crate) fn pulled(&self, outcome: Pull) {
        self.pulls.get_or_create(&Way { outcome }).inc();
    }

    /// Returns all metrics as text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

const SECONDS: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0];
