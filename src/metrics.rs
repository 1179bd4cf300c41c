//! The workers' counters over HTTP, in the text format that Prometheus scrapes.
//!
//! They are read when somebody asks; the workers know nothing of it. Whoever asks costs a bounded
//! amount of memory for a bounded time, on a thread of its own: the service does not feel it, and
//! the end of the process does not wait for it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{self, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{self, Runtime};
use tokio::task::JoinHandle;
use tokio::time;

use crate::address::Address;
use crate::endpoint::Endpoint;
use crate::engine::Engine;
use crate::threads;
use crate::worker::{Count, Counters};

/// How many may ask at once. One more takes the place of whoever is at it for longest.
const MOST_SCRAPERS: usize = 8;

/// How long an answer may take, from the connection to its end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most that is read of a request, in bytes; hyper takes no less.
const LONGEST_REQUEST: usize = 8192;

/// How long to wait for descriptors or memory to come back.
const PAUSE: Duration = Duration::from_millis(100);

/// Descriptors that this takes at most: scrapers, and what the runtime needs.
pub const DESCRIPTORS: usize = MOST_SCRAPERS + 8;

/// Where metrics are served, as soon as somebody calls [`Exporter::start`].
#[derive(Debug)]
pub struct Exporter {
    /// The address asked for, with the real port.
    pub address: SocketAddr,
    listener: TcpListener,
    runtime: Runtime,
}

impl Exporter {
    /// Binds and listens.
    ///
    /// # Errors
    ///
    /// When the address is none of TCP or cannot be had, see `bind(2)`, or descriptors are
    /// exhausted.
    pub fn bind(address: &Address) -> Result<Self> {
        address
            .bind(Self::try_bind)
            .with_context(|| format!("cannot serve metrics on {address}"))
    }

    fn try_bind(endpoint: &Endpoint) -> Result<Self> {
        let Endpoint::Tcp(address) = endpoint else {
            bail!("HTTP needs a TCP address");
        };
        let listener = match net::TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => bail!(
                "address already in use: another program listens there, perhaps another ringlab; \
                 stop it or choose another address with --metrics"
            ),
            other => other?,
        };
        listener.set_nonblocking(true)?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let inside = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        drop(inside);
        Ok(Self {
            address: listener.local_addr()?,
            listener,
            runtime,
        })
    }

    /// Serves what `crew` counts, on a thread of its own, until the process ends.
    ///
    /// # Errors
    ///
    /// When no thread can be had.
    pub fn start(self, engine: Engine, crew: Arc<[Counters]>) -> io::Result<()> {
        let Self {
            listener, runtime, ..
        } = self;
        threads::named("metrics")
            .spawn(move || runtime.block_on(accept(listener, engine, crew)))?;
        Ok(())
    }
}

async fn accept(listener: TcpListener, engine: Engine, crew: Arc<[Counters]>) {
    let mut scrapers = VecDeque::<JoinHandle<()>>::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            time::sleep(PAUSE).await;
            continue;
        };
        scrapers.retain(|scraper| !scraper.is_finished());
        if scrapers.len() == MOST_SCRAPERS
            && let Some(oldest) = scrapers.pop_front()
        {
            oldest.abort();
            // Only then is it gone, with its socket; and the others have had their turn meanwhile.
            let _ = oldest.await;
        }
        let serve = serve(stream, engine, Arc::clone(&crew));
        // Too late, malformed, gone: whatever it is, the connection is closed.
        scrapers.push_back(tokio::spawn(async {
            _ = time::timeout(PATIENCE, serve).await;
        }));
    }
}

/// One connection, one answer: nobody keeps a place between two scrapes.
async fn serve(stream: TcpStream, engine: Engine, crew: Arc<[Counters]>) -> hyper::Result<()> {
    let answer = service_fn(|request| {
        let answer = answer(&request, engine, &crew);
        async { Ok::<_, Infallible>(answer) }
    });
    http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(LONGEST_REQUEST)
        // PATIENCE is for all of it.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), answer)
        .await
}

fn answer(request: &Request<Incoming>, engine: Engine, crew: &[Counters]) -> Response<String> {
    let mut answer = Response::default();
    if request.uri().path() != "/metrics" {
        *answer.status_mut() = StatusCode::NOT_FOUND;
        "metrics are at /metrics\n".clone_into(answer.body_mut());
    } else if ![Method::GET, Method::HEAD].contains(request.method()) {
        *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        let allowed = HeaderValue::from_static("GET, HEAD");
        answer.headers_mut().insert(ALLOW, allowed);
    } else if let Ok(text) = TextEncoder::new().encode_to_string(&families(engine, crew)) {
        let format = HeaderValue::from_static(prometheus::TEXT_FORMAT);
        answer.headers_mut().insert(CONTENT_TYPE, format);
        *answer.body_mut() = text;
    } else {
        *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    answer
}

/// A metric that every worker has: name, description, type, value.
type PerWorker = (&'static str, &'static str, MetricType, fn(&Count) -> u64);

const PER_WORKER: [PerWorker; 10] = [
    (
        "ringlab_connections_accepted_total",
        "Connections accepted.",
        MetricType::COUNTER,
        |count| count.accepted,
    ),
    (
        "ringlab_connections_active",
        "Connections open now.",
        MetricType::GAUGE,
        |count| count.active as u64,
    ),
    (
        "ringlab_connections_limit",
        "The most connections that may be open at once.",
        MetricType::GAUGE,
        |count| count.limit as u64,
    ),
    (
        "ringlab_accept_waiting",
        "1 while the worker is at its limit and accepts nobody, else 0.",
        MetricType::GAUGE,
        |count| count.at_limit as u64,
    ),
    (
        "ringlab_accept_waits_total",
        "How often the worker stopped accepting because it had reached its limit.",
        MetricType::COUNTER,
        |count| count.accept_waits,
    ),
    (
        "ringlab_connections_timed_out_total",
        "Connections closed by the idle timeout.",
        MetricType::COUNTER,
        |count| count.timed_out,
    ),
    (
        "ringlab_connections_reset_total",
        "Connections that failed: reset by the client, or by another error of the socket.",
        MetricType::COUNTER,
        |count| count.failed,
    ),
    (
        "ringlab_connections_cut_total",
        "Connections closed by the deadline of the drain.",
        MetricType::COUNTER,
        |count| count.cut,
    ),
    (
        "ringlab_received_bytes_total",
        "Bytes received from clients.",
        MetricType::COUNTER,
        |count| count.received_bytes,
    ),
    (
        "ringlab_sent_bytes_total",
        "Bytes sent to clients, greetings included.",
        MetricType::COUNTER,
        |count| count.sent_bytes,
    ),
];

fn families(engine: Engine, crew: &[Counters]) -> Vec<MetricFamily> {
    let counts: Vec<_> = crew.iter().map(Counters::count).collect();
    let mut families: Vec<_> = PER_WORKER
        .into_iter()
        .map(|(name, help, kind, value)| {
            let metrics = counts.iter().enumerate().map(|(worker, count)| {
                let labels = vec![label("worker", worker.to_string())];
                metric(kind, labels, value(count))
            });
            family(name, help, kind, metrics.collect())
        })
        .collect();
    let labels = vec![
        label("engine", engine.to_string()),
        label("version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    families.push(family(
        "ringlab_build_info",
        "Always 1; what is running is in the labels.",
        MetricType::GAUGE,
        vec![metric(MetricType::GAUGE, labels, 1)],
    ));
    families
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

/// The format knows floating-point numbers only: beyond 2^53 they are rounded.
fn metric(kind: MetricType, labels: Vec<LabelPair>, value: u64) -> Metric {
    let mut metric = Metric::from_label(labels);
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value as f64);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value as f64);
        metric.set_gauge(gauge);
    }
    metric
}

fn label(name: &str, value: String) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value);
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_what_prometheus_reads() {
        let crew = [Counters::new(3), Counters::new(2)];
        crew[0].opened();
        crew[0].traffic.received.add(1 << 40);
        let text = TextEncoder::new()
            .encode_to_string(&families(Engine::TokioUring, &crew))
            .unwrap();
        for line in [
            "# HELP ringlab_connections_accepted_total Connections accepted.",
            "# TYPE ringlab_connections_accepted_total counter",
            "ringlab_connections_accepted_total{worker=\"0\"} 1",
            "ringlab_connections_accepted_total{worker=\"1\"} 0",
            "# TYPE ringlab_connections_limit gauge",
            "ringlab_connections_limit{worker=\"1\"} 2",
            "ringlab_received_bytes_total{worker=\"0\"} 1099511627776",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
