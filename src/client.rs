//! The tutorial's client: a fixed conversation with fixed pauses, on several connections at once.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use jiff::Zoned;

use crate::address::Address;
use crate::endpoint::Endpoint;
use crate::framing::GREETING;
use crate::threads;

/// What is sent, and how long the client then waits.
const SENDS: [(&[u8], Duration); 3] = [
    (b"^abc$de^abte$f", Duration::from_millis(1000)),
    (b"xyz^123", Duration::from_millis(1000)),
    (b"25$^ab0000$abab", Duration::from_millis(200)),
];

/// All that must come back. It ends with the sign that everything has arrived.
const REPLIES: &[u8] = b"bcdbcuf23436bc1111";

/// How long a server may take to answer: to be connected, to greet, to reply.
const PATIENCE: Duration = Duration::from_secs(10);

/// Holds the conversation on `connections` connections to `server` at once. Logs it to stderr as
/// the tutorial's client does and prints to stdout how long it took.
///
/// # Errors
///
/// When a connection cannot be made or fails, or a reply is wrong or missing. Nothing is waited for
/// once no byte has come for ten seconds on any connection: a server that serves one client after
/// the other keeps the later ones waiting as long as it serves the first.
pub fn run(server: &Address, connections: usize) -> Result<()> {
    let start = Instant::now();
    let life = Life::new();
    let life = &life;
    let results: Vec<Result<()>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..connections)
            .map(|index| {
                let name = format!("conn{index}");
                threads::named(&name)
                    .spawn_scoped(scope, move || converse(&name, server, life).context(name))
            })
            .collect();
        clients
            .into_iter()
            .map(
                |client| match client.context("cannot start a thread")?.join() {
                    Ok(result) => result,
                    Err(_) => bail!("a client panicked"),
                },
            )
            .collect()
    });
    // The exit code says how it went, even if nobody reads this.
    let _ = writeln!(
        io::stdout(),
        "Elapsed: {:.3}",
        start.elapsed().as_secs_f64()
    );

    let failed = results.iter().filter(|result| result.is_err()).count();
    match results.into_iter().find_map(Result::err) {
        None => Ok(()),
        Some(first) => Err(first.context(format!("{failed} of {connections} connections failed"))),
    }
}

/// When something came from the server last, on any connection.
struct Life(Mutex<Instant>);

impl Life {
    fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// Receives what is there, or comes while the server shows that it lives; `None` if it does not.
    fn receive(&self, mut server: &TcpStream, buf: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let left = PATIENCE.saturating_sub(last.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            // A microsecond is the least that the kernel knows, and nothing would be for ever.
            server.set_read_timeout(Some(left.max(Duration::from_micros(1))))?;
            match server.read(buf) {
                Ok(count) => {
                    *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                    return Ok(Some(count));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn connect(server: &Address) -> Result<TcpStream> {
    let connect = |endpoint: &Endpoint| match endpoint {
        Endpoint::Tcp(address) => Ok(TcpStream::connect_timeout(address, PATIENCE)?),
        Endpoint::Unix(_) => bail!("the client speaks TCP only"),
    };
    server
        .connect(connect)
        .with_context(|| format!("cannot connect to {server}"))
}

fn converse(name: &str, server: &Address, life: &Life) -> Result<()> {
    let server = connect(server)?;
    let mut greeting = [0; GREETING.len()];
    match life.receive(&server, &mut greeting) {
        Ok(Some(1..)) => {}
        Ok(Some(0)) => bail!("the server closed before it greeted"),
        Ok(None) => bail!("no greeting for {} s", PATIENCE.as_secs()),
        Err(error) => return Err(error).context("the server closed before it greeted"),
    }
    ensure!(
        greeting == GREETING,
        "the greeting is {}, not {}",
        Bytes(&greeting),
        Bytes(GREETING)
    );
    log(format_args!("{name} connected..."));

    server.set_write_timeout(Some(PATIENCE))?;
    thread::scope(|scope| {
        let receiver = threads::named(name)
            .spawn_scoped(scope, || receive(name, &server, life))
            .context("cannot start a thread")?;
        let sent = send(name, &server);
        if sent.is_err() {
            // Or the receiver would wait for replies to what could not be sent.
            let _ = server.shutdown(Shutdown::Both);
        }
        let received = match receiver.join() {
            Ok(received) => received,
            Err(_) => bail!("the receiver panicked"),
        };
        // What arrived until then says more than that sending failed.
        received.and(sent)
    })?;
    log(format_args!("{name} disconnecting"));
    Ok(())
}

fn send(name: &str, mut server: &TcpStream) -> Result<()> {
    for (message, pause) in SENDS {
        log(format_args!("{name} sending {}", Bytes(message)));
        server.write_all(message).context("cannot send")?;
        thread::sleep(pause);
    }
    Ok(())
}

fn receive(name: &str, server: &TcpStream, life: &Life) -> Result<()> {
    let mut replies = Vec::new();
    let mut buf = [0; 8 * 1024];
    while replies.len() < REPLIES.len() {
        let count = match life.receive(server, &mut buf).context("cannot receive")? {
            Some(0) => bail!(
                "the server closed after {} of {} replies",
                replies.len(),
                REPLIES.len()
            ),
            Some(count) => count,
            None => bail!(
                "no reply for {} s, after {} of {}",
                PATIENCE.as_secs(),
                replies.len(),
                REPLIES.len()
            ),
        };
        log(format_args!("{name} received {}", Bytes(&buf[..count])));
        replies.extend_from_slice(&buf[..count]);
    }
    ensure!(
        replies == REPLIES,
        "the replies are {}, not {}",
        Bytes(&replies),
        Bytes(REPLIES)
    );
    Ok(())
}

/// A line in the format of Python's `%(levelname)s:%(asctime)s:%(message)s`, in local time.
fn log(message: fmt::Arguments<'_>) {
    let now = Zoned::now().strftime("%Y-%m-%d %H:%M:%S,%3f");
    // One call, so that the lines of several connections do not mix. A closed stderr is no reason
    // to break off a conversation.
    let _ = io::stderr().write_all(format!("INFO:{now}:{message}\n").as_bytes());
}

/// Bytes much as Python shows them: `b'^abc$'`.
struct Bytes<'a>(&'a [u8]);

impl fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b'{}'", self.0.escape_ascii())
    }
}
