//! A server to put under strain, and what can be seen of it from outside.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ringlab::endpoint::Endpoint;
use ringlab::engine::Engine;
use ringlab_bench::load::{Arrivals, Plan, WINDOW, Workload};
use ringlab_bench::tape::Mix;
use rustix::process::{Pid, Signal, kill_process};

use crate::sockets;

/// How long anything may take before it is given up. Nothing waits this long that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running `ringlab serve`, killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) endpoint: Endpoint,
}

impl Server {
    /// Starts an engine with two workers on a port of the kernel's choice.
    pub(crate) fn start(engine: Engine, options: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0", engine, options)
    }

    pub(crate) fn start_on(listen: &str, engine: Engine, options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringlab-bench"));
        command
            .args(["serve", "-q", "--workers", "2", "--listen", listen])
            .args(["--engine", engine.name()])
            .args(options);
        Self::spawn(&mut command)
    }

    /// Runs `command` and waits for its first line.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server can be started");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("stdout can be read");
        let endpoint = line
            .trim_end()
            .strip_prefix("listening on ")
            .and_then(|endpoint| endpoint.parse().ok())
            .unwrap_or_else(|| panic!("the first line is {line:?}"));
        Self { child, endpoint }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match &self.endpoint {
            Endpoint::Tcp(address) => *address,
            Endpoint::Unix(path) => panic!("{} is no TCP address", path.display()),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the server still runs");
    }

    /// Waits until it has ended by itself. Returns its exit code, `None` after a signal.
    pub(crate) fn wait(mut self) -> Option<i32> {
        let mut status = None;
        wait_until("the server has ended", || {
            status = self.child.try_wait().expect("it can be waited for");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(self.proc("fd"))
            .expect("the server still runs")
            .count()
    }

    /// Waits until every connection is closed, and no more than so many descriptors are open.
    pub(crate) fn wait_for_descriptors(&self, before: usize) {
        wait_until("all connections are closed", || {
            self.descriptors() <= before && sockets::held(&self.endpoint) == 0
        });
    }

    /// Its own memory in bytes: resident and not backed by a file. By counting pages: RssAnon of
    /// `proc_pid_status(5)` may be off by some dozens of them for every processor.
    pub(crate) fn memory(&self) -> usize {
        let pages = fs::read_to_string(self.proc("smaps_rollup")).expect("the server still runs");
        let kibibytes = pages
            .lines()
            .find_map(|line| line.strip_prefix("Anonymous:")?.strip_suffix("kB"))
            .expect("proc_pid_smaps(5) has Anonymous");
        kibibytes.trim().parse::<usize>().expect("a number") * 1024
    }

    /// How many threads of the kernel's work for it, because an operation of io_uring blocks.
    pub(crate) fn kernel_threads(&self) -> usize {
        let threads = fs::read_dir(self.proc("task")).expect("the server still runs");
        threads
            .map_while(Result::ok)
            // One that has ended meanwhile is none.
            .filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok())
            .filter(|name| name.starts_with("iou-wrk"))
            .count()
    }

    /// What its connections may leave behind. The kernel's threads end five seconds after their
    /// last work.
    pub(crate) fn left(&self) -> Left {
        let threads = fs::read_dir(self.proc("task")).expect("the server still runs");
        Left {
            threads: threads.count() - self.kernel_threads(),
            descriptors: self.descriptors() + sockets::held(&self.endpoint),
            memory: self.memory(),
        }
    }

    /// Processor time that it has used, to a hundredth of a second.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(self.proc("stat")).expect("the server still runs");
        // The name in parentheses may contain anything; utime and stime are the 12th and 13th field
        // behind it, in ticks of which Linux has 100 a second: proc_pid_stat(5).
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().expect("a number"))
            .sum();
        Duration::from_millis(ticks * 10)
    }

    fn proc(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// See [`Server::left`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left {
    pub(crate) threads: usize,
    /// Connections that are no descriptors of the process included.
    pub(crate) descriptors: usize,
    pub(crate) memory: usize,
}

/// Connects; whether the server accepts is another question.
pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let client = TcpStream::connect(address)?;
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    Ok(client)
}

/// Connects and is greeted.
pub(crate) fn greeted(address: SocketAddr) -> io::Result<TcpStream> {
    let mut client = connect(address)?;
    let mut greeting = [0];
    client.read_exact(&mut greeting)?;
    assert_eq!(greeting, *b"*");
    Ok(client)
}

/// A message and its reply.
pub(crate) fn round_trip(client: &mut TcpStream) -> io::Result<()> {
    client.write_all(b"^ringlab$")?;
    let mut reply = [0; 7];
    client.read_exact(&mut reply)?;
    assert_eq!(reply, *b"sjohmbc");
    Ok(())
}

/// A load of messages of 32 bytes, to be adjusted.
pub(crate) fn plan(target: &Endpoint, workload: Workload, duration: Duration) -> Plan {
    Plan {
        target: target.clone(),
        workload,
        connections: 16,
        sizes: Mix::of(32),
        pipeline: 1,
        window: WINDOW,
        rate: None,
        arrivals: Arrivals::Exponential,
        warmup: Duration::ZERO,
        warmup_limit: Duration::ZERO,
        duration,
        requests: None,
        timeout: PATIENCE,
        threads: 1.try_into().expect("one is not zero"),
        processors: None,
        seed: 1,
    }
}

/// Waits for an event that announces itself nowhere.
pub(crate) fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
