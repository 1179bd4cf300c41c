//! A server to talk to, a client to talk with, and ways to wait for what should happen.

#[path = "sockets.rs"]
mod sockets;

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ringlab::endpoint::Endpoint;
use ringlab::framing::Framer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::Row;

/// How long anything may take before the test gives it up. Nothing waits this long that works, not
/// even on a machine that is emulated.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn ringlab() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringlab"));
    command.stdin(Stdio::null()).env_remove("RUST_LOG");
    command
}

/// A running `ringlab serve`, killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// As the server has announced it.
    pub(crate) endpoint: Endpoint,
    stdout: BufReader<ChildStdout>,
    log: Log,
}

/// `ringlab serve` as a service manager starts it, with `socket` as each of `descriptors`: these are
/// shell words such as `3<&0`.
pub(crate) fn serve_on_passed(socket: impl Into<OwnedFd>, descriptors: &[&str]) -> Command {
    // The server replaces the shell and so has its process id.
    let script = format!(
        "export LISTEN_PID=$$ LISTEN_FDS={} && exec \"$0\" serve \"$@\" {} </dev/null",
        descriptors.len(),
        descriptors.join(" ")
    );
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, env!("CARGO_BIN_EXE_ringlab")])
        .stdin(Stdio::from(socket.into()))
        .env_remove("RUST_LOG");
    command
}

/// How a server ended.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) code: Option<i32>,
    pub(crate) log: String,
}

impl Server {
    /// Starts this row's engine with two workers on a port of the kernel's choice.
    pub(crate) fn start(row: &Row, args: &[&str]) -> Self {
        Self::start_on(row, "127.0.0.1:0", args)
    }

    pub(crate) fn start_on(row: &Row, listen: &str, args: &[&str]) -> Self {
        Self::spawn(ringlab().args(serve_args(row, listen, args)))
    }

    /// Starts it with no more descriptors than this.
    pub(crate) fn start_with_descriptors(row: &Row, limit: u32, args: &[&str]) -> Self {
        let limited = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
        Self::spawn(
            Command::new("sh")
                .args(["-c", &limited, env!("CARGO_BIN_EXE_ringlab")])
                .args(serve_args(row, "127.0.0.1:0", args)),
        )
    }

    /// Starts it with a log that goes elsewhere than to the test.
    pub(crate) fn start_with_log(row: &Row, log: impl Into<Stdio>, args: &[&str]) -> Self {
        Self::spawn(
            Command::new("sh")
                .args(["-c", "exec \"$0\" \"$@\" 2>&0 </dev/null"])
                .arg(env!("CARGO_BIN_EXE_ringlab"))
                .args(serve_args(row, "127.0.0.1:0", args))
                .env_remove("RUST_LOG")
                .stdin(log),
        )
    }

    /// Runs `command` and waits for its first line.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self::try_spawn(command).unwrap_or_else(|exit| panic!("it exits: {exit:?}"))
    }

    /// The same of one that may exit instead.
    pub(crate) fn try_spawn(command: &mut Command) -> Result<Self, Exit> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server can be started");
        let mut log = Log::collect(child.stderr.take().expect("stderr is piped"));
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        stdout.read_line(&mut line).expect("stdout can be read");
        let endpoint = line
            .strip_prefix("listening on ")
            .and_then(|endpoint| endpoint.strip_suffix('\n'));
        let Some(endpoint) = endpoint else {
            if !line.is_empty() {
                let _ = child.kill();
            }
            let code = child.wait().expect("the server can be waited for").code();
            let log = log.finish();
            assert_eq!(line, "", "the first line, log:\n{log}");
            return Err(Exit { code, log });
        };
        Ok(Self {
            endpoint: endpoint.parse().expect("it announces an endpoint"),
            child,
            stdout,
            log,
        })
    }

    /// Connects; whether the server accepts is another question.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.endpoint).expect("the server listens")
    }

    /// Connects and is greeted.
    pub(crate) fn greeted(&self) -> Client {
        let mut client = self.connect();
        client.expect(b"*");
        client
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the server still runs");
    }

    /// Waits until the server has exited by itself.
    pub(crate) fn exit(mut self) -> Exit {
        let mut status = None;
        wait_until("the server exits", || {
            status = self.child.try_wait().expect("the server can be waited for");
            status.is_some()
        });
        let status = status.expect("it has exited");
        assert_eq!(status.signal(), None, "killed by a signal");
        let mut rest = String::new();
        let read = self.stdout.read_to_string(&mut rest);
        read.expect("stdout can be read");
        assert_eq!(rest, "", "on stdout, after the first line");
        Exit {
            code: status.code(),
            log: self.log.finish(),
        }
    }

    /// SIGTERM, and a clean exit with nobody to wait for.
    pub(crate) fn stop(self) -> Exit {
        self.signal(Signal::TERM);
        let exit = self.exit();
        assert_eq!(exit.code, Some(0), "{}", exit.log);
        exit
    }

    /// What it has logged so far.
    #[cfg(feature = "metrics")]
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    pub(crate) fn wait_for_log(&self, text: &str) {
        wait_until(&format!("{text:?} is logged"), || {
            self.log.text().contains(text)
        });
    }

    /// Asks for the counters, and waits for them. Returns all workers' counter with this `name`.
    pub(crate) fn counter(&self, name: &str) -> usize {
        let name = format!("total_{name}");
        let before = logged(&self.log.text(), &name).len();
        self.signal(Signal::USR1);
        wait_until("the counters are logged", || {
            logged(&self.log.text(), &name).len() > before
        });
        last_logged(&self.log.text(), &name)
    }

    /// The same of each of the two workers.
    pub(crate) fn counters(&self, name: &str) -> Vec<usize> {
        self.counter(name);
        let values = logged(&self.log.text(), name);
        values[values.len() - 2..].to_vec()
    }

    /// Waits until that counter has this value.
    pub(crate) fn wait_for_counter(&self, name: &str, value: usize) {
        wait_until(&format!("{name} is {value}"), || {
            self.counter(name) == value
        });
    }

    /// How many descriptors the server has open.
    pub(crate) fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.child.id());
        fs::read_dir(path).expect("the server still runs").count()
    }

    /// How many descriptors the server has had room for at once: the kernel makes more when they
    /// are needed, in steps, and never takes it back.
    #[cfg(feature = "metrics")]
    pub(crate) fn most_descriptors(&self) -> usize {
        self.status("FDSize:")
    }

    /// Waits until every connection is closed, and as many descriptors are open as were `before`.
    pub(crate) fn wait_for_descriptors(&self, before: usize) {
        wait_until(&format!("{before} descriptors are open again"), || {
            self.descriptors() <= before
        });
        wait_until("the server has closed all sockets", || {
            sockets::held(&self.endpoint) == 0
        });
    }

    /// How many threads of the kernel's work for it, because an operation of io_uring blocks.
    pub(crate) fn kernel_threads(&self) -> usize {
        let path = format!("/proc/{}/task", self.child.id());
        fs::read_dir(path)
            .expect("the server still runs")
            .map_while(Result::ok)
            // One that has ended meanwhile is none.
            .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok())
            .filter(|name| name.starts_with("iou-wrk"))
            .count()
    }

    /// The server's own memory now, in bytes: resident and not backed by a file.
    pub(crate) fn memory(&self) -> usize {
        self.status("RssAnon:") * 1024
    }

    /// A number in `proc_pid_status(5)`.
    fn status(&self, name: &str) -> usize {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("the server still runs");
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        let value = value.unwrap_or_else(|| panic!("no {name} in {status}"));
        let number = value.trim_end_matches("kB").trim().parse();
        number.expect("a number")
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("log of the server:\n{}", self.log.text());
        }
    }
}

fn serve_args<'a>(row: &Row, listen: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["serve", "--listen", listen, "--workers", "2", "-v"];
    all.extend(&row.args);
    all.extend(args);
    all
}

/// What a process writes to stderr, while it does.
struct Log {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Log {
    fn collect(stderr: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let shared = Arc::clone(&text);
        let reader = thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut text = shared.lock().expect("nobody panics with the log");
                text.push_str(&line);
                text.push('\n');
            }
        });
        Self {
            text,
            reader: Some(reader),
        }
    }

    fn text(&self) -> String {
        self.text
            .lock()
            .expect("nobody panics with the log")
            .clone()
    }

    fn finish(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log can be read");
        }
        self.text()
    }
}

/// One end of a conversation. Whatever takes longer than [`PATIENCE`] fails the test.
pub(crate) struct Client {
    socket: Socket,
}

impl Client {
    pub(crate) fn connect(endpoint: &Endpoint) -> io::Result<Self> {
        let (domain, address) = match endpoint {
            Endpoint::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
            Endpoint::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        if let Endpoint::Tcp(_) = endpoint {
            socket.set_tcp_nodelay(true)?;
        }
        socket.connect(&address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket })
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("the server takes it");
    }

    /// Sends a byte as urgent data, see `tcp(7)`. Where a Unix socket does not know what that is
    /// (before Linux 5.15), it is a byte like others.
    pub(crate) fn send_urgent(&mut self, byte: &[u8; 1]) {
        match self.socket.send_out_of_band(byte) {
            Ok(sent) => assert_eq!(sent, 1),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => self.send(byte),
            Err(error) => panic!("{error} where the server should take it"),
        }
    }

    /// Sends as much of `bytes` as goes without waiting.
    /// Returns how much that was.
    pub(crate) fn send_some(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        self.socket.set_nonblocking(true).expect("a valid socket");
        while let Ok(sent @ 1..) = self.socket.write(rest) {
            rest = &rest[sent..];
        }
        self.socket.set_nonblocking(false).expect("a valid socket");
        bytes.len() - rest.len()
    }

    /// A small piece of what has come so far, or of what comes next.
    pub(crate) fn receive_some(&mut self, most: usize) -> Vec<u8> {
        let mut piece = vec![0; most];
        // With a timeout set, a read is not restarted after a stop, see signal(7).
        let received = retry_on_intr(|| rustix::io::read(&self.socket, &mut piece[..]));
        let received = received.expect("an orderly end");
        piece.truncate(received);
        piece
    }

    /// Receives exactly `bytes`.
    pub(crate) fn expect(&mut self, bytes: &[u8]) {
        let mut received = vec![0; bytes.len()];
        self.socket
            .read_exact(&mut received)
            .unwrap_or_else(|error| {
                panic!(
                    "{error} where {:?} should come",
                    bytes.escape_ascii().to_string()
                )
            });
        assert!(
            received == bytes,
            "received {:?}, not {:?}",
            received.escape_ascii().to_string(),
            bytes.escape_ascii().to_string()
        );
    }

    /// A message and its reply.
    pub(crate) fn round_trip(&mut self) {
        self.send(b"^ringlab$");
        self.expect(b"sjohmbc");
    }

    /// A message and its reply, or false if the server has closed.
    pub(crate) fn round_trip_unless_closed(&mut self) -> bool {
        let mut reply = [0; 7];
        let answered = self.socket.write_all(b"^ringlab$").is_ok()
            && self.socket.read_exact(&mut reply).is_ok();
        assert!(!answered || reply == *b"sjohmbc", "a wrong reply");
        answered
    }

    /// Receives the end of the stream, and nothing before it.
    pub(crate) fn expect_end(&mut self) {
        let mut rest = Vec::new();
        self.socket.read_to_end(&mut rest).expect("an orderly end");
        assert_eq!(rest, b"");
    }

    /// The server closes, orderly or not, without a greeting.
    pub(crate) fn expect_to_be_turned_away(mut self) {
        match self.socket.read_to_end(&mut Vec::new()) {
            Ok(0) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => panic!("{other:?} where the server should close"),
        }
    }

    /// Receives to the end of the stream, and nothing but what is `expected`.
    pub(crate) fn expect_only(&mut self, expected: impl Fn(u8) -> bool) {
        let mut rest = Vec::new();
        self.socket.read_to_end(&mut rest).expect("an orderly end");
        assert!(rest.iter().all(|&byte| expected(byte)), "a wrong byte");
    }

    /// Nothing has been received that was not expected, and the connection is open.
    pub(crate) fn expect_silence(&mut self) {
        self.socket.set_nonblocking(true).expect("a valid socket");
        let read = self.socket.read(&mut [0]);
        self.socket.set_nonblocking(false).expect("a valid socket");
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => panic!("{other:?} where nothing should come"),
        }
    }

    /// Sends no more.
    pub(crate) fn half_close(&self) {
        self.socket
            .shutdown(Shutdown::Write)
            .expect("the connection is open");
    }

    /// Closes so that the server sees a reset.
    pub(crate) fn reset(self) {
        self.socket
            .set_linger(Some(Duration::ZERO))
            .expect("a valid socket");
    }

    /// Leaves the kernel little room for what is on its way, so that a client that reads no reply
    /// is soon stuck.
    pub(crate) fn with_small_buffers(self) -> Self {
        let socket = &self.socket;
        socket.set_recv_buffer_size(4096).expect("a valid socket");
        socket
            .set_send_buffer_size(64 * 1024)
            .expect("a valid socket");
        self
    }

    /// Sends messages and reads no reply, until for a while nothing more can be sent. Returns how
    /// many bytes were.
    pub(crate) fn send_until_stuck(&mut self) -> usize {
        let a_while = Timespec {
            tv_sec: 0,
            tv_nsec: 300_000_000,
        };
        let message = [&b"^"[..], &[b'x'; 16 * 1024]].concat();
        let mut sent = 0;
        self.socket.set_nonblocking(true).expect("a valid socket");
        loop {
            assert!(sent < 256 << 20, "the server keeps reading");
            match self.socket.write(&message) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(&self.socket, PollFlags::OUT)];
                    if poll(&mut fds, Some(&a_while)).expect("a valid socket") == 0 {
                        break;
                    }
                }
                Err(error) => panic!("{error} where the server should just not read"),
            }
        }
        self.socket.set_nonblocking(false).expect("a valid socket");
        sent
    }

    /// Sends messages and reads no reply, until the server closes.
    pub(crate) fn send_until_closed(&mut self) {
        let message = [&b"^"[..], &[b'x'; 16 * 1024], b"$"].concat();
        let error = loop {
            if let Err(error) = self.socket.write_all(&message) {
                break error;
            }
        };
        // Not the client's own patience.
        assert_ne!(error.kind(), io::ErrorKind::WouldBlock);
    }

    /// Sends `input` in pieces of at most `largest` bytes, closes its half, and checks everything
    /// that comes back until the end against the reference.
    pub(crate) fn verify(mut self, input: &[u8], largest: usize, random: &mut fastrand::Rng) {
        let mut expected = input.to_vec();
        let length = Framer::new().feed(&mut expected);
        expected.truncate(length);

        let mut receiver = Self {
            socket: self.socket.try_clone().expect("descriptors are left"),
        };
        thread::scope(|scope| {
            let received = scope.spawn(move || {
                let mut received = Vec::new();
                receiver
                    .socket
                    .read_to_end(&mut received)
                    .map(|_| received)
                    .expect("an orderly end")
            });
            let mut rest = input;
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(random.usize(1..=largest.min(rest.len())));
                self.send(piece);
                rest = later;
            }
            self.half_close();
            let received = received.join().expect("the receiver does not panic");
            assert_eq!(received.len(), expected.len());
            assert!(received == expected, "a reply byte is wrong");
        });
    }
}

impl From<Client> for OwnedFd {
    fn from(client: Client) -> Self {
        client.socket.into()
    }
}

/// Input in which messages of all lengths, noise between them and every byte value occur.
pub(crate) fn random_input(length: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    (0..length)
        .map(|_| match random.u8(0..32) {
            0 | 1 => b'^',
            2 => b'$',
            _ => random.u8(..),
        })
        .collect()
}

/// The values of `name=VALUE` in a log, in order.
pub(crate) fn logged(log: &str, name: &str) -> Vec<usize> {
    let prefix = format!(" {name}=");
    log.match_indices(&prefix)
        .map(|(at, _)| {
            let value = log[at + prefix.len()..].split_whitespace().next();
            value
                .and_then(|value| value.parse().ok())
                .expect("a number")
        })
        .collect()
}

/// The last of them.
pub(crate) fn last_logged(log: &str, name: &str) -> usize {
    let values = logged(log, name);
    *values
        .last()
        .unwrap_or_else(|| panic!("no {name} in\n{log}"))
}

/// Waits for an event that announces itself nowhere. Fails the test when it does not happen.
pub(crate) fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The address of a server that listens on TCP.
pub(crate) fn address(endpoint: &Endpoint) -> SocketAddr {
    match endpoint {
        Endpoint::Tcp(address) => *address,
        Endpoint::Unix(path) => panic!("{} is no TCP address", path.display()),
    }
}

pub(crate) fn unix_endpoint(directory: &Path) -> String {
    format!("unix:{}", directory.join("socket").display())
}

/// Thousands of connections need thousands of descriptors on this side too.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("the soft limit may be raised to the hard one");
}
