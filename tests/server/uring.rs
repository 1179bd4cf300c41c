//! What only the engine `uring` has: features to choose, and rings that can be too small.

use std::process::Command;

use ringlab::features::{Feature, Features};
use rustix::process::Signal;
use serde_json::Value;

use crate::cli::{run, stderr};
use crate::conversations::over_before_it_looks;
use crate::hostile::{reset_before_it_looks, send_urgent_bytes};
use crate::support::{self, Client, Server, ringlab};

const TCP: &str = "127.0.0.1:0";

pub(crate) fn cases() -> Vec<(String, Box<dyn FnOnce() + Send>)> {
    let with_and_without = Feature::ALL.into_iter().map(|feature| {
        let run: Box<dyn FnOnce() + Send> = Box::new(move || with_and_without(feature));
        (format!("with_and_without_{feature}"), run)
    });
    let mut cases: Vec<_> = with_and_without.collect();
    cases.extend(Feature::ALL.into_iter().map(|feature| {
        let run: Box<dyn FnOnce() + Send> = Box::new(move || bears_hostile_clients(feature));
        (
            format!("bears_hostile_clients_with_and_without_{feature}"),
            run,
        )
    }));
    cases.push((
        "features_in_use_are_logged".to_owned(),
        Box::new(features_in_use_are_logged),
    ));
    cases.push((
        "unix_streams_are_received_message_by_message".to_owned(),
        Box::new(unix_streams_are_received_message_by_message),
    ));
    cases.push((
        "tiny_rings_overflow_and_lose_nothing".to_owned(),
        Box::new(tiny_rings_overflow_and_lose_nothing),
    ));
    cases.push((
        "tiny_rings_let_go_of_many_at_once".to_owned(),
        Box::new(tiny_rings_let_go_of_many_at_once),
    ));
    cases
}

fn probe() -> Value {
    let probed = run(&["probe", "--format", "json"]);
    serde_json::from_slice(&probed.stdout).expect("valid JSON")
}

fn serve(listen: &str, args: &[&str]) -> Command {
    let mut command = ringlab();
    command
        .args(["serve", "-v", "--engine", "uring", "--workers", "2"])
        .args(["--listen", listen])
        .args(args);
    command
}

/// The feature by itself, with the others, and left out. Where the kernel lacks it, it is said
/// since when it exists.
fn with_and_without(feature: Feature) {
    let alone = format!("none,+{feature}");
    if probe()["features"][feature.name()]["status"] == "missing" {
        let refused = serve(TCP, &["--uring-features", &alone]).output();
        let refused = refused.expect("ringlab can be started");
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let since = format!("{feature} (since Linux {})", feature.since());
        assert!(stderr(&refused).contains(&since), "{refused:?}");
    } else {
        converse(&["--uring-features", &alone]);
        converse(&["--uring-features", &format!("+{feature}")]);
    }
    converse(&["--uring-features", &format!("-{feature}")]);
}

/// As above, against clients that want to keep what is the server's.
fn bears_hostile_clients(feature: Feature) {
    let mut choices = vec![format!("-{feature}")];
    if probe()["features"][feature.name()]["status"] != "missing" {
        choices.extend([format!("none,+{feature}"), format!("+{feature}")]);
    }
    for features in choices {
        let options = ["--uring-features", &features, "--idle-timeout", "0"];
        let server = Server::spawn(&mut serve(TCP, &options));
        send_urgent_bytes(&server, 20, 2);
        reset_before_it_looks(&server, 20);
        server.stop();
    }
}

/// Conversations over both kinds of socket, the second time through the smallest ring.
fn converse(features: &[&str]) {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let listen = support::unix_endpoint(directory.path());
    converse_with(&Server::spawn(&mut serve(TCP, features)));
    let tiny = [features, &["--uring-entries", "1"]].concat();
    converse_with(&Server::spawn(&mut serve(&listen, &tiny)));
}

/// Messages, a stream, and messages again, from several clients.
fn converse_with(server: &Server) {
    let mut random = fastrand::Rng::with_seed(2);
    let input = support::random_input(300_000, &mut random);
    let mut clients: Vec<_> = (0..40).map(|_| server.greeted()).collect();
    clients.iter_mut().for_each(Client::round_trip);
    for largest in [100, 20_000, 300_000] {
        server.greeted().verify(&input, largest, &mut random);
    }
    clients.iter_mut().for_each(Client::round_trip);
    over_before_it_looks(server);
    for length in 1..40 {
        server
            .greeted()
            .verify(&input[..length], length, &mut random);
    }
}

fn features_in_use_are_logged() {
    let report = probe();
    let of_this_kernel: Features = Feature::ALL
        .into_iter()
        .filter(|feature| report["features"][feature.name()]["auto"] == true)
        .collect();
    let in_use = |args: &[&str], features: Features| {
        let log = Server::spawn(&mut serve(TCP, args)).stop().log;
        assert!(log.contains(&format!(" features={features} ")), "{log}");
    };
    in_use(&[], of_this_kernel);
    in_use(&["--uring-features", "none"], Features::NONE);
    for feature in of_this_kernel.iter() {
        let alone = Features::NONE.with(feature).with_needed();
        in_use(&["--uring-features", &format!("none,+{feature}")], alone);
    }
}

/// A multishot receive can miss the end of a Unix stream.
fn unix_streams_are_received_message_by_message() {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let listen = support::unix_endpoint(directory.path());
    let mut choices = vec!["auto"];
    if probe()["features"]["multishot-recv"]["status"] == "available" {
        choices.push("+multishot-recv");
    }
    for asked in choices {
        let server = Server::spawn(&mut serve(&listen, &["--uring-features", asked]));
        server.greeted().round_trip();
        let log = server.stop().log;
        let in_use = log
            .lines()
            .find(|line| line.contains(" io_uring features="));
        let in_use = in_use.expect("the features in use are logged");
        assert!(!in_use.contains("multishot-recv"), "{log}");
        let warned = log.contains("multishot-recv is not for Unix sockets");
        assert_eq!(warned, asked == "+multishot-recv", "{log}");
    }
}

fn tiny_rings_overflow_and_lose_nothing() {
    let server = Server::spawn(&mut serve(TCP, &["--uring-entries", "1"]));
    let mut clients: Vec<_> = (0..300).map(|_| server.greeted()).collect();
    for _ in 0..5 {
        server.signal(Signal::STOP);
        for client in &mut clients {
            client.send(b"^ringlab$");
        }
        server.signal(Signal::CONT);
        for client in &mut clients {
            client.expect(b"sjohmbc");
        }
    }
    drop(clients);
    let log = server.stop().log;
    let overflowed: usize = support::logged(&log, "overflowed").iter().sum();
    assert!(overflowed > 0, "the ring was not too small: {log}");
}

fn tiny_rings_let_go_of_many_at_once() {
    let report = probe();
    let features = [Feature::DeferTaskrun, Feature::PollFirst]
        .iter()
        .filter(|feature| report["features"][feature.name()]["status"] == "available")
        .fold("none".to_owned(), |list, feature| {
            format!("{list},{feature}")
        });
    let args = ["--uring-features", &features, "--uring-entries", "1"];
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let listen = support::unix_endpoint(directory.path());
    let server = Server::spawn(&mut serve(&listen, &args));
    server.signal(Signal::STOP);
    for _ in 0..20 {
        server.connect().send(b"^gone$");
    }
    server.signal(Signal::CONT);
    // A receive whose data is there already is on its way to complete, and cannot be cancelled.
    // To try again and again must not keep it from completing.
    server.greeted().round_trip();
}
