//! Servers that are ended, killed, stopped and continued while everybody wants something of them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringlab::engine::Engine;
use ringlab_bench::load::{self, Workload};
use rustix::process::Signal;

use crate::Scale;
use crate::server::{PATIENCE, Server, connect, greeted, plan, round_trip, wait_until};

const CLIENTS: usize = 32;

/// SIGTERM under full load: whoever was greeted gets every byte, the server ends well before the
/// drain timeout, and the next one has the address at once.
pub(crate) fn terminated_under_load(engine: Engine, scale: &Scale) {
    let mut listen = "127.0.0.1:0".to_owned();
    let mut slowest = Duration::ZERO;
    let mut conversations = 0;
    for _ in 0..scale.ends {
        let server = Server::start_on(&listen, engine, &["--drain-timeout", "20s"]);
        listen = server.endpoint.to_string();
        let address = server.address();
        let (served, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| while converse(address, &served, &ended) {});
            }
            wait_until("the load is on", || {
                served.load(Ordering::Relaxed) > 2 * CLIENTS
            });
            server.signal(Signal::TERM);
            let start = Instant::now();
            assert_eq!(server.wait(), Some(0));
            slowest = slowest.max(start.elapsed());
            ended.store(true, Ordering::SeqCst);
        });
        conversations += served.into_inner();
    }
    println!(
        "{engine}: ended {} times under load, in {slowest:.1?} at most, after {conversations} \
         conversations without a byte missing",
        scale.ends
    );
}

/// A conversation to its end, of which no byte may be missing. Returns false if there was no
/// promise: the server does not listen, or has turned this client away.
fn converse(address: SocketAddr, served: &AtomicUsize, ended: &AtomicBool) -> bool {
    const PIECE: usize = 20_000;
    const PIECES: usize = 4;
    let mut client = match greeted_before(address, ended) {
        Ok(client) => client,
        Err(error) => {
            assert!(is_turned_away(&error), "{error}");
            return false;
        }
    };
    let piece = [&b"^"[..], &[b'x'; PIECE], b"$"].concat();
    let mut reply = vec![0; PIECE];
    for _ in 0..PIECES {
        client.write_all(&piece).unwrap();
        client.read_exact(&mut reply).unwrap();
        assert!(reply.iter().all(|&byte| byte == b'y'), "a wrong byte");
    }
    client.write_all(&piece).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    reply.clear();
    client.read_to_end(&mut reply).unwrap();
    assert!(reply == [b'y'; PIECE], "a byte is missing or wrong");
    served.fetch_add(1, Ordering::Relaxed);
    true
}

/// Connects and is greeted, unless the server has `ended`. When a listener is closed, the kernel
/// resets whom it has not handed over, but now and then forgets one who was just connecting.
fn greeted_before(address: SocketAddr, ended: &AtomicBool) -> io::Result<TcpStream> {
    let mut client = connect(address)?;
    client.set_read_timeout(Some(Duration::from_millis(100)))?;
    let start = Instant::now();
    let mut greeting = [0];
    loop {
        // Looked at first: what the server had sent by then is there.
        let is_over = ended.load(Ordering::SeqCst);
        match client.read_exact(&mut greeting) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if is_over {
                    return Err(ErrorKind::ConnectionReset.into());
                }
                assert!(start.elapsed() < PATIENCE, "the server does not greet");
            }
            other => {
                other?;
                break;
            }
        }
    }
    assert_eq!(greeting, *b"*");
    client.set_read_timeout(Some(PATIENCE))?;
    Ok(client)
}

fn is_turned_away(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
    )
}

/// SIGKILL under load: nothing that a dead server leaves behind keeps the next one from starting.
pub(crate) fn killed_under_load(engine: Engine, scale: &Scale) {
    let directory = tempfile::tempdir().unwrap();
    let unix = format!("unix:{}", directory.path().join("socket").display());
    let mut slowest = Duration::ZERO;
    for listen in ["127.0.0.1:0", &unix] {
        let mut listen = listen.to_owned();
        for _ in 0..scale.ends {
            let start = Instant::now();
            let server = Server::start_on(&listen, engine, &[]);
            slowest = slowest.max(start.elapsed());
            listen = server.endpoint.to_string();
            let stop = AtomicBool::new(false);
            let plan = plan(
                &server.endpoint,
                Workload::RequestReply,
                Duration::from_secs(60),
            );
            thread::scope(|scope| {
                let stop = &stop;
                let load = scope.spawn(move || load::run(&plan, &(), stop));
                // Part of the load, not of the test: where it is cut is as good as any other.
                thread::sleep(Duration::from_millis(50));
                server.signal(Signal::KILL);
                assert_eq!(server.wait(), None);
                stop.store(true, Ordering::Relaxed);
                // Its connections have failed, as they must.
                let _ = load.join().unwrap();
            });
        }
    }
    println!(
        "{engine}: killed {} times under load, served again within {slowest:.1?}",
        2 * scale.ends
    );
}

/// Stopped for longer than the idle timeout, a server that goes on finds what clients have sent
/// meanwhile before it finds that they were idle.
pub(crate) fn stopped_and_continued(engine: Engine, scale: &Scale) {
    let timeout = scale.stopped / 2;
    let timeout = format!("{}ms", timeout.as_millis());
    let server = Server::start(engine, &["--idle-timeout", &timeout]);
    let mut clients: Vec<_> = (0..200)
        .map(|_| greeted(server.address()).unwrap())
        .collect();
    clients
        .iter_mut()
        .for_each(|client| round_trip(client).unwrap());
    server.signal(Signal::STOP);
    for client in &mut clients {
        client.write_all(b"^ringlab$").unwrap();
    }
    thread::sleep(scale.stopped);
    server.signal(Signal::CONT);
    let mut lost = 0;
    for client in &mut clients {
        let mut reply = [0; 7];
        let answered = client
            .read_exact(&mut reply)
            .and_then(|()| round_trip(client));
        lost += usize::from(answered.is_err() || reply != *b"sjohmbc");
    }
    println!(
        "{engine}: stopped for {:?}, twice the idle timeout: {lost} of {} clients lost",
        scale.stopped,
        clients.len()
    );
    assert_eq!(lost, 0);
}
