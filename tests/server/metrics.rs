//! What Prometheus sees, and what scrapers that misbehave can do: nothing.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use libtest_mimic::Trial;
use ringlab::engine::Engine;
use rustix::process::Signal;

use crate::cli::{run, stderr};
use crate::row::{self, Row};
use crate::support::{Client, PATIENCE, Server, last_logged, ringlab, wait_until};

/// A metric of every worker, and what the log calls it.
const NAMES: [(&str, &str); 10] = [
    ("ringlab_connections_accepted_total", "accepted"),
    ("ringlab_connections_active", "active"),
    ("ringlab_connections_limit", "limit"),
    ("ringlab_accept_waiting", "at_limit"),
    ("ringlab_accept_waits_total", "accept_waits"),
    ("ringlab_connections_timed_out_total", "timed_out"),
    ("ringlab_connections_reset_total", "failed"),
    ("ringlab_connections_cut_total", "cut"),
    ("ringlab_received_bytes_total", "received_bytes"),
    ("ringlab_sent_bytes_total", "sent_bytes"),
];

pub(crate) fn trials() -> Vec<Trial> {
    let cases: [(&str, fn()); 6] = [
        ("only_get_metrics_is_served", only_get_metrics_is_served),
        ("head_is_get_without_the_body", head_is_get_without_the_body),
        (
            "floods_take_no_more_descriptors_than_their_own",
            floods_take_no_more_descriptors_than_their_own,
        ),
        ("names_are_looked_up", names_are_looked_up),
        (
            "addresses_that_cannot_be_had_are_explained",
            addresses_that_cannot_be_had_are_explained,
        ),
        (
            "silent_scrapers_are_closed_in_the_end",
            silent_scrapers_are_closed_in_the_end,
        ),
    ];
    row::trials_of_no_row("metrics", cases)
}

/// Where a server serves metrics, as it has logged.
fn address(server: &Server) -> SocketAddr {
    server.wait_for_log(" metrics endpoint=");
    let log = server.log();
    let (_, rest) = log.split_once(" metrics endpoint=").expect("just seen");
    let address = rest.lines().next().expect("a line");
    address.parse().expect("an address with its port")
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("metrics are served");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a valid socket");
    stream
        .set_write_timeout(Some(PATIENCE))
        .expect("a valid socket");
    stream
}

/// Head and body of the answer to a request.
fn ask(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = connect(address);
    // In one piece: the server answers what it does not like without waiting for more.
    let request = format!("{request} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is read");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an orderly end");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_lowercase(), body.to_owned())
}

/// What every series says.
type Scrape = BTreeMap<String, f64>;

fn scrape(address: SocketAddr) -> Scrape {
    let (head, body) = ask(address, "GET /metrics");
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    let format = "\r\ncontent-type: text/plain; version=0.0.4";
    assert!(head.contains(format), "{head}");
    parse(&body)
}

/// Reads the text format, and checks that each family is described, of one piece, and named as
/// the conventions want it.
fn parse(text: &str) -> Scrape {
    assert!(text.ends_with('\n'), "the last line has no end: {text}");
    let mut scrape = Scrape::new();
    let mut families = HashSet::new();
    let mut lines = text.lines().peekable();
    while let Some(help) = lines.next() {
        let help = help.strip_prefix("# HELP ").expect(text);
        let (name, help) = help.split_once(' ').expect(text);
        assert!(help.ends_with('.'), "{help}");
        assert!(families.insert(name), "{name} comes twice");
        let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE "));
        let (of, kind) = kind.expect(text).split_once(' ').expect(text);
        assert_eq!(of, name);
        assert!(["counter", "gauge"].contains(&kind), "{kind}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
            let (series, value) = sample.rsplit_once(' ').expect(text);
            let labels = series.strip_prefix(name).expect("of this family");
            assert!(labels.starts_with('{') && labels.ends_with('}'), "{sample}");
            let value = value.parse().expect("a number");
            let known = scrape.insert(series.to_owned(), value);
            assert_eq!(known, None, "{series} comes twice");
        }
    }
    scrape
}

fn sum(scrape: &Scrape, name: &str) -> f64 {
    let prefix = format!("{name}{{");
    let series = scrape.iter().filter(|(name, _)| name.starts_with(&prefix));
    series.map(|(_, value)| value).sum()
}

pub(crate) fn metrics_say_what_the_log_says(row: &Row) {
    let server = Server::start(row, &["--metrics", "127.0.0.1:0"]);
    let address = address(&server);
    // While it serves, anything may change but the form.
    thread::scope(|scope| {
        let served = scope.spawn(|| {
            for _ in 0..row.enough(200) {
                server.greeted().round_trip();
            }
        });
        while !served.is_finished() {
            scrape(address);
        }
        served.join().expect("every reply is right");
    });
    let mut client = server.greeted();
    client.send(b"^in mid-message");
    client.reset();
    let inside = server.greeted();
    wait_until("the metrics tell of one client", || {
        sum(&scrape(address), "ringlab_connections_active") == 1.0
    });
    drop(inside);
    wait_until("the metrics tell of no client", || {
        sum(&scrape(address), "ringlab_connections_active") == 0.0
    });

    let mut scrape = scrape(address);
    let accepted = sum(&scrape, "ringlab_connections_accepted_total");
    assert_eq!(accepted, row.enough(200) as f64 + 2.0);
    assert_eq!(sum(&scrape, "ringlab_connections_reset_total"), 1.0);
    let info = format!(
        "ringlab_build_info{{engine=\"{}\",version=\"{}\"}}",
        row.engine,
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(scrape.remove(&info), Some(1.0), "{scrape:?}");
    let log = server.stop().log;
    let lines = log.lines().filter(|line| line.contains("worker done"));
    for (worker, line) in lines.enumerate() {
        assert_eq!(last_logged(line, "worker"), worker);
        for (metric, name) in NAMES {
            let value = scrape.remove(&format!("{metric}{{worker=\"{worker}\"}}"));
            assert_eq!(value, Some(last_logged(line, name) as f64), "{metric}");
        }
    }
    assert!(scrape.is_empty(), "nobody knows {scrape:?}");
}

pub(crate) fn hostile_scrapers_disturb_neither_service_nor_exit(row: &Row) {
    let server = Server::start(row, &["--metrics", "127.0.0.1:0"]);
    let address = address(&server);
    scrape(address);
    let mut client = server.greeted();
    // What the first of them need is there for the others.
    disturb(address, &mut client);
    let (descriptors, memory) = (server.descriptors(), server.memory());
    let hostile = disturb(address, &mut client);
    wait_until("few descriptors are open", || {
        server.descriptors() <= descriptors + 8
    });
    let grown = server.memory().saturating_sub(memory);
    // A hundredth of what the endless request would have brought.
    assert!(grown <= 1 << 20, "{grown} bytes");
    client.round_trip();
    drop(client);
    server.stop();
    drop(hostile);
}

/// Asks for metrics as one should not, and sees that `client` is served and so is a scraper that
/// behaves. Returns those that are still there.
fn disturb(address: SocketAddr, client: &mut Client) -> Vec<TcpStream> {
    // More silent ones than may ask at once, and as many that send half a request, or what is
    // none, or ask and never read.
    let hostile: Vec<_> = [
        "",
        "GET /metr",
        "\0\x16\x03garbage\r\n\r\n",
        "GET /metrics ",
    ]
    .into_iter()
    .flat_map(|beginning| std::iter::repeat_n(beginning, 20))
    .map(|beginning| {
        let mut stream = connect(address);
        // It may be closed by now, to make room.
        let _ = stream.write_all(beginning.as_bytes());
        stream
    })
    .collect();
    client.round_trip();
    scrape(address);

    // A request without an end.
    let mut endless = connect(address);
    let header = [&b"x: "[..], &[b'y'; 1021], b"\r\n"].concat();
    let sent = endless
        .write_all(b"GET /metrics HTTP/1.1\r\n")
        .and_then(|()| (0..100_000).try_for_each(|_| endless.write_all(&header)));
    let error = sent.expect_err("it is not read for ever").kind();
    assert!(
        [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset].contains(&error),
        "{error}"
    );
    client.round_trip();
    scrape(address);
    hostile
}

/// An engine that runs everywhere.
fn server() -> Server {
    let args = ["serve", "--engine", "threads", "--listen", "127.0.0.1:0"];
    Server::spawn(ringlab().args(args).args(["--metrics", "127.0.0.1:0"]))
}

fn only_get_metrics_is_served() {
    let server = server();
    let address = address(&server);
    scrape(address);
    for (request, status) in [
        ("GET /", "404 not found"),
        ("GET /metrics/", "404 not found"),
        ("POST /", "404 not found"),
        ("POST /metrics", "405 method not allowed"),
        ("HEAD /", "404 not found"),
        ("GET /metrics\r\nx", "400 bad request"),
    ] {
        let (head, _) = ask(address, request);
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
        let allows = head.contains("\r\nallow: get, head");
        assert_eq!(allows, status.starts_with("405"), "{head}");
    }
    let headers = "x: y\r\n".repeat(200);
    let (head, _) = ask(address, &format!("GET /metrics HTTP/1.1\r\n{headers}x:"));
    assert!(head.starts_with("http/1.1 431 "), "{head}");
    server.stop();
}

fn head_is_get_without_the_body() {
    let server = server();
    let address = address(&server);
    // Nothing happens between the two, so that they are equally long.
    let (get, text) = ask(address, "GET /metrics");
    let (head, body) = ask(address, "HEAD /metrics");
    assert_eq!(body, "");
    let without_date = |head: &str| -> Vec<_> {
        let lines = head.lines().filter(|line| !line.starts_with("date:"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(without_date(&head), without_date(&get));
    let length = format!("content-length: {}", text.len());
    assert!(head.lines().any(|line| line == length), "{head}");
    server.stop();
}

/// A flood is accepted piece by piece: it takes no descriptor that was set aside for others.
fn floods_take_no_more_descriptors_than_their_own() {
    let server = server();
    let address = address(&server);
    scrape(address);
    // The kernel makes room for 256 descriptors first. A flood on top of these would need more.
    let mut clients: Vec<_> = (0..200).map(|_| server.greeted()).collect();
    let before = server.most_descriptors();
    server.signal(Signal::STOP);
    // As many as the backlog holds.
    let flood: Vec<_> = (0..120).map(|_| connect(address)).collect();
    server.signal(Signal::CONT);
    clients.iter_mut().for_each(Client::round_trip);
    scrape(address);
    assert_eq!(server.most_descriptors(), before);
    drop((flood, clients));
    scrape(address);
    server.stop();
}

fn names_are_looked_up() {
    let mut command = ringlab();
    command.args(["serve", "--engine", "threads", "--listen", "127.0.0.1:0"]);
    // Every resolver knows the address as a name.
    let server = Server::spawn(command.args(["--metrics", "127.1:0"]));
    scrape(address(&server));
    server.stop();
}

fn addresses_that_cannot_be_had_are_explained() {
    let server = server();
    let taken = address(&server).to_string();
    for (metrics, complaint) in [
        (&taken[..], "address already in use"),
        // TEST-NET-1 of RFC 5737 belongs to no host.
        ("192.0.2.1:0", "Cannot assign requested address"),
    ] {
        let engine = Engine::Threads.name();
        let serve = ["serve", "--listen", "127.0.0.1:0", "--engine", engine];
        let output = run(&[&serve[..], &["--metrics", metrics]].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(output.stdout, b"");
        let complaint = format!("cannot serve metrics on {metrics}: {complaint}");
        assert!(stderr(&output).contains(&complaint), "{output:?}");
    }
}

fn silent_scrapers_are_closed_in_the_end() {
    let server = server();
    let mut silent = connect(address(&server));
    let mut slow = connect(address(&server));
    slow.write_all(b"GET /metrics HTTP/1.1\r\n")
        .expect("it is read");
    for stream in [&mut silent, &mut slow] {
        let received = stream.read_to_end(&mut Vec::new());
        assert_eq!(received.expect("an orderly end"), 0);
    }
}
