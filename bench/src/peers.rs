//! The protocol on other runtimes with completion-based I/O, to compare with.
//!
//! Each peer is written as its runtime's documentation and examples recommend, so that it is that
//! runtime which is measured and not our idea of it: owned buffers, the io_uring driver, a thread
//! per worker with a runtime of its own. What is not the runtime's is the same as in ringlab's
//! engine `tokio-uring`: the framer, one write for one read, the sizes of the buffers
//! ([`ringlab::buffer`]), TCP_NODELAY, one listening socket for all workers, and the flags that
//! the ring is set up with.
//!
//! A peer has no limits, no timeouts and no drain. It serves until the process is killed. With
//! several workers, connections that come one by one are spread evenly; a burst is not, for want
//! of what ringlab's engines do about it.

mod compio;
mod monoio;

use std::convert::Infallible;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use ringlab::diagnosis;
use ringlab::endpoint::{Endpoint, Listening, UNIX_MODE};
use ringlab::socket_options::SocketOptions;
use ringlab::threads;
use socket2::Socket;

const OPTIONS: SocketOptions = SocketOptions {
    nodelay: true,
    patience: None,
};

/// A server of the protocol on another runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    /// Thread per core, an event loop around the ring
    Monoio,
    /// Thread per core, a proactor that is io_uring on Linux
    Compio,
}

impl Peer {
    /// Every peer, in the order in which reports list them.
    pub const ALL: [Self; 2] = [Self::Monoio, Self::Compio];

    /// As on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Monoio => "monoio",
            Self::Compio => "compio",
        }
    }

    /// Serves on `listen` with `workers` threads, at least 1, until the process is told to end:
    /// SIGTERM and SIGINT keep their default action.
    ///
    /// Prints `listening on ENDPOINT`, with the real port, to stdout as soon as clients can
    /// connect. The file of a Unix socket is left behind, and the next server there replaces it.
    ///
    /// The address is not free at the moment the process is gone: an accept that is pending in the
    /// kernel holds the listening socket until the ring is undone, some milliseconds later.
    ///
    /// # Errors
    ///
    /// When the address cannot be had or io_uring cannot be used. When a worker failed in
    /// mid-service: what a server with a worker less does is not worth measuring.
    pub fn serve(self, listen: &Endpoint, workers: usize) -> Result<()> {
        ringlab::server::raise_descriptor_limit();
        let listening = listen.listen(OPTIONS, UNIX_MODE)?;
        let Err(error) = self.serve_on(&listening, workers, || {
            // Whoever started the server may have closed the pipe; that is no reason not to serve.
            let mut stdout = io::stdout().lock();
            let _ = writeln!(stdout, "listening on {}", listening.endpoint);
            let _ = stdout.flush();
        });
        Err(error)
    }

    /// Starts the workers, calls `announce` when each of them can serve, and returns when the
    /// first of them fails.
    fn serve_on(
        self,
        listening: &Listening,
        workers: usize,
        announce: impl FnOnce(),
    ) -> Result<Infallible> {
        let (reports, inbox) = mpsc::channel();
        for index in 0..workers {
            let listener = listening
                .socket
                .try_clone()
                .context("cannot share the listener")?;
            let reports = reports.clone();
            threads::named(format!("worker-{index}"))
                .spawn(move || self.work(listener, &reports))
                .context("cannot start a thread")?;
        }
        let failed = |error| self.failed(error);
        for _ in 0..workers {
            inbox.recv()?.map_err(failed)?;
        }
        announce();
        loop {
            inbox.recv()?.map_err(failed)?;
        }
    }

    /// One worker's thread. It reports once that it can serve, and then only that it no longer
    /// does.
    fn work(self, listener: Socket, reports: &Sender<io::Result<()>>) {
        // Nobody listens any more when another worker has failed; the process is about to end.
        let ready = || _ = reports.send(Ok(()));
        let Err(error) = catch_unwind(AssertUnwindSafe(|| match self {
            Self::Monoio => monoio::run(listener, ready),
            Self::Compio => compio::run(listener, ready),
        }))
        .unwrap_or_else(|_| Err(io::Error::other("a worker panicked")));
        let _ = reports.send(Err(error));
    }

    fn failed(self, error: io::Error) -> Error {
        let name = self.name();
        match error.raw_os_error() {
            Some(_) => anyhow!("{name} cannot run here: {}", diagnosis::explain(&error)),
            None => Error::new(error).context(format!("{name} failed")),
        }
    }
}

/// Raises the soft limit on descriptors to the hard one, as ringlab's server does for its engines.
/// What a worker does about errors of `accept(2)`: log the first, pause, try again.
#[derive(Debug, Default)]
struct AcceptErrors {
    logged: bool,
}

impl AcceptErrors {
    const PAUSE: Duration = Duration::from_millis(1);

    /// Blocks the worker, and every connection on it, for the pause. Timers would not, but with
    /// monoio's the event loop reads the clock in every turn, and out of descriptors there is
    /// nothing worth measuring anyway.
    fn pause_after(&mut self, error: &io::Error) {
        if !self.logged {
            self.logged = true;
            // Not eprintln, which panics when stderr is closed.
            let _ = writeln!(io::stderr(), "cannot accept connections for now: {error}");
        }
        thread::sleep(Self::PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Shutdown, TcpStream};
    use std::os::unix::net::UnixStream;

    use ringlab::framing::{Framer, GREETING, Path};
    use tempfile::TempDir;

    use super::*;

    /// A peer that serves on threads of its own, which nothing ends but the test process.
    struct Serving {
        name: &'static str,
        endpoint: Endpoint,
        /// Where a Unix socket lies.
        _directory: TempDir,
    }

    /// Every peer with two workers, over TCP and over a Unix socket.
    fn every_peer() -> Vec<Serving> {
        let endpoints: [fn(&TempDir) -> Endpoint; 2] = [
            |_| "127.0.0.1:0".parse().unwrap(),
            |directory| Endpoint::Unix(directory.path().join("socket")),
        ];
        Peer::ALL
            .into_iter()
            .flat_map(|peer| endpoints.map(|endpoint| start(peer, endpoint)))
            .collect()
    }

    fn start(peer: Peer, endpoint: fn(&TempDir) -> Endpoint) -> Serving {
        let directory = TempDir::new().unwrap();
        let listening = endpoint(&directory).listen(OPTIONS, UNIX_MODE).unwrap();
        let endpoint = listening.endpoint.clone();
        let (announce, announced) = mpsc::channel();
        thread::spawn(move || {
            let Err(error) = peer.serve_on(&listening, 2, || announce.send(()).unwrap());
            eprintln!("{error:#}");
        });
        announced.recv().expect("the workers cannot serve");
        Serving {
            name: peer.name(),
            endpoint,
            _directory: directory,
        }
    }

    /// A client's end, over TCP or a Unix socket.
    struct Client(Socket);

    impl Client {
        /// Connects and takes the greeting.
        fn greeted_by(serving: &Serving) -> Self {
            let stream: Socket = match &serving.endpoint {
                Endpoint::Tcp(address) => TcpStream::connect(address).unwrap().into(),
                Endpoint::Unix(path) => UnixStream::connect(path).unwrap().into(),
            };
            stream
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            let client = Self(stream);
            assert_eq!(client.receive(1), GREETING, "{}", serving.name);
            client
        }

        fn send(&self, bytes: &[u8]) {
            (&self.0).write_all(bytes).unwrap();
        }

        fn receive(&self, count: usize) -> Vec<u8> {
            let mut received = vec![0; count];
            (&self.0).read_exact(&mut received).unwrap();
            received
        }

        fn receive_to_the_end(&self) -> Vec<u8> {
            let mut received = Vec::new();
            (&self.0).read_to_end(&mut received).unwrap();
            received
        }

        /// Says that nothing more will be sent.
        fn close_half(&self) {
            self.0.shutdown(Shutdown::Write).unwrap();
        }
    }

    /// A message of `length` bytes between the delimiters. Its pattern fits no buffer's size, so a
    /// piece that is lost, doubled or out of order shows.
    fn message(length: usize) -> Vec<u8> {
        let content = (0..length).map(|at| match (at % 251) as u8 {
            b'$' => b'^',
            other => other,
        });
        [b'^'].into_iter().chain(content).chain([b'$']).collect()
    }

    fn reply_to(sent: &[u8]) -> Vec<u8> {
        let mut reply = sent.to_vec();
        let replied = Framer::with_path(Path::Reference)
            .expect("runs everywhere")
            .feed(&mut reply);
        reply.truncate(replied);
        reply
    }

    #[test]
    fn the_tutorials_conversation_is_answered_as_it_documents() {
        for serving in every_peer() {
            let client = Client::greeted_by(&serving);
            for (sent, replies) in [
                ("^abc$de^abte$f", "bcdbcuf"),
                ("xyz^123", "234"),
                ("25$^ab0000$abab", "36bc1111"),
            ] {
                client.send(sent.as_bytes());
                let received = client.receive(replies.len());
                assert_eq!(received, replies.as_bytes(), "{}", serving.name);
            }
            client.close_half();
            assert_eq!(client.receive_to_the_end(), b"", "{}", serving.name);
        }
    }

    #[test]
    fn a_message_of_one_mebibyte_comes_back_whole() {
        let sent = message(1 << 20);
        let expected = reply_to(&sent);
        assert_eq!(expected.len(), 1 << 20);
        for serving in every_peer() {
            let client = Client::greeted_by(&serving);
            let received = thread::scope(|scope| {
                let reader = scope.spawn(|| client.receive(expected.len()));
                client.send(&sent);
                reader.join().unwrap()
            });
            assert!(received == expected, "{}", serving.name);
        }
    }

    #[test]
    fn replies_of_every_size_around_a_buffers_come_back_whole() {
        for serving in every_peer() {
            let client = Client::greeted_by(&serving);
            for length in [1, 510, 511, 512, 513, 4096, 8190, 65_534, 65_535, 65_536, 1] {
                let sent = message(length);
                client.send(&sent);
                assert!(
                    client.receive(length) == reply_to(&sent),
                    "{}: {length}",
                    serving.name
                );
            }
        }
    }

    #[test]
    fn who_closes_the_sending_side_gets_every_reply_and_then_the_end() {
        let sent = message(100_000);
        for serving in every_peer() {
            let client = Client::greeted_by(&serving);
            let received = thread::scope(|scope| {
                let reader = scope.spawn(|| client.receive_to_the_end());
                client.send(&sent);
                client.close_half();
                reader.join().unwrap()
            });
            assert!(received == reply_to(&sent), "{}", serving.name);
        }
    }

    #[test]
    fn a_client_that_goes_away_takes_nobody_along() {
        for serving in every_peer() {
            let others: Vec<_> = (0..8).map(|_| Client::greeted_by(&serving)).collect();
            let gone = Client::greeted_by(&serving);
            // Closed with replies unread, which resets a TCP connection.
            gone.send(&message(1000));
            drop(gone);
            for client in others {
                client.send(b"^a$");
                assert_eq!(client.receive(1), b"b", "{}", serving.name);
            }
        }
    }

    #[test]
    fn many_clients_are_served_at_once() {
        for serving in every_peer() {
            let clients: Vec<_> = (0..64).map(|_| Client::greeted_by(&serving)).collect();
            for client in &clients {
                client.send(b"^abc$");
            }
            for client in &clients {
                assert_eq!(client.receive(3), b"bcd", "{}", serving.name);
            }
        }
    }
}
