//! Many clients, most of them up to no good.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use ringlab::buffer;
use ringlab::engine::Engine;
use ringlab_bench::load::{self, Workload};
use socket2::SockRef;

use crate::Scale;
use crate::server::{Server, greeted, plan, round_trip, wait_until};

/// What an idle or slow connection may cost in the server's own memory, in bytes. A thread needs
/// two pages of stack at least.
fn bound_for_slow(engine: Engine) -> usize {
    match engine {
        Engine::Threads => 16 * 1024,
        Engine::Tokio | Engine::TokioUring => 4 * 1024,
        Engine::Sequential | Engine::Epoll | Engine::Uring => 1024,
    }
}

/// Thousands of connections, each sending a byte now and then, to have the server busy waiting.
pub(crate) fn slowloris(engine: Engine, scale: &Scale) {
    let server = Server::start(engine, &["--idle-timeout", "60s"]);
    round_trip(&mut greeted(server.address()).unwrap()).unwrap();
    let before = server.memory();
    let mut slow: Vec<_> = (0..scale.slow)
        .map(|_| greeted(server.address()).unwrap())
        .collect();
    for client in &mut slow {
        client.write_all(b"^").unwrap();
    }
    let done = AtomicBool::new(false);
    let worst = thread::scope(|scope| {
        let newcomers = scope.spawn(|| {
            let mut worst = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let start = Instant::now();
                round_trip(&mut greeted(server.address()).unwrap()).unwrap();
                worst = worst.max(start.elapsed());
                thread::sleep(Duration::from_millis(10));
            }
            worst
        });
        let start = Instant::now();
        for index in (0..slow.len()).cycle() {
            slow[index].write_all(b"x").unwrap();
            if start.elapsed() > scale.slow_time {
                break;
            }
            // Some thousand bytes a second: every connection a byte now and then.
            thread::sleep(Duration::from_micros(200));
        }
        done.store(true, Ordering::Relaxed);
        newcomers.join().unwrap()
    });
    let each = server.memory().saturating_sub(before) / slow.len();
    println!(
        "{engine}: {} slow connections cost {each} bytes each; a new client waits {worst:.1?} at \
         most",
        slow.len()
    );
    if scale.strict {
        assert!(each <= bound_for_slow(engine), "{each} bytes each");
        assert!(worst <= Duration::from_millis(100), "{worst:?}");
    }
    for client in &mut slow {
        client.write_all(b"$").unwrap();
    }
}

/// Clients that send and never read cost a bounded amount of memory, harm nobody once they are
/// stuck, and are closed by the idle timeout.
pub(crate) fn clients_that_never_read(engine: Engine, scale: &Scale) {
    let server = Server::start(engine, &["--idle-timeout", "15s"]);
    round_trip(&mut greeted(server.address()).unwrap()).unwrap();
    let (descriptors, memory) = (server.descriptors(), server.memory());
    let mut deaf: Vec<_> = (0..scale.deaf)
        .map(|_| {
            let client = greeted(server.address()).unwrap();
            let socket = SockRef::from(&client);
            socket.set_recv_buffer_size(4096).unwrap();
            socket.set_send_buffer_size(64 * 1024).unwrap();
            client.set_nonblocking(true).unwrap();
            client
        })
        .collect();

    let message = [&b"^"[..], &[b'x'; 16 * 1024]].concat();
    let mut peak = 0;
    let mut insist = || {
        let sent = deaf
            .iter_mut()
            .map(|client| send_all_it_takes(client, &message));
        let sent: usize = sent.sum();
        peak = peak.max(server.memory());
        thread::sleep(Duration::from_millis(50));
        sent
    };
    wait_until("they are stuck", || insist() == 0);
    let mut active = plan(
        &server.endpoint,
        Workload::RequestReply,
        Duration::from_secs(1),
    );
    active.connections = 8;
    let outcome = thread::scope(|scope| {
        let outcome = scope.spawn(|| load::run(&active, &(), &AtomicBool::new(false)).unwrap());
        while !outcome.is_finished() {
            insist();
        }
        outcome.join().unwrap()
    });
    let each = peak.saturating_sub(memory) / deaf.len();
    println!(
        "{engine}: {} clients that never read cost {each} bytes each at most; beside them {:.0} \
         requests per second, the slowest {:.1?}",
        deaf.len(),
        outcome.throughput(),
        Duration::from_nanos(outcome.latency.max())
    );
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    // One buffer of the largest size, and as much again for everything else; and once for all, the
    // buffers that connections share.
    let bound = 2 * buffer::LARGEST + (4 << 20) / deaf.len();
    assert!(each <= bound, "{each} bytes each, more than {bound}");
    server.wait_for_descriptors(descriptors);
    drop(deaf);
    round_trip(&mut greeted(server.address()).unwrap()).unwrap();
}

/// Returns how many bytes that was.
fn send_all_it_takes(client: &mut TcpStream, message: &[u8]) -> usize {
    let mut sent = 0;
    loop {
        match client.write(message) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return sent,
            Err(error) => panic!("{error}: the server has closed too early"),
        }
    }
}

/// Connections that are reset as soon as they are there leave nothing behind.
pub(crate) fn connects_and_resets(engine: Engine, scale: &Scale) {
    const PLACES: usize = 64;
    let server = Server::start(engine, &["--max-connections", "64"]);
    let address = server.address();
    let reset = || {
        let client = TcpStream::connect(address).unwrap();
        SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    };
    round_trip(&mut greeted(address).unwrap()).unwrap();
    let descriptors = server.descriptors();
    // What the allocator keeps, it keeps from here on.
    (0..1000).for_each(|_| reset());
    server.wait_for_descriptors(descriptors);
    let memory = server.memory();

    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < scale.reset_time {
        let due = start.elapsed().as_micros() as u64 * scale.resets / 1_000_000;
        if count >= due {
            thread::sleep(Duration::from_millis(1));
        }
        for _ in count..due {
            reset();
        }
        count = count.max(due);
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    server.wait_for_descriptors(descriptors);
    let grown = server.memory().saturating_sub(memory);
    println!(
        "{engine}: {count} connects and resets, {rate:.0} per second, cost {} descriptors and \
         {grown} bytes",
        server.descriptors().saturating_sub(descriptors)
    );
    // What the allocator keeps for threads: up to eight arenas for each processor, and up to some
    // 128 KiB in each, see M_ARENA_MAX and M_TRIM_THRESHOLD in mallopt(3).
    let arenas = match engine {
        Engine::Threads => 8 * thread::available_parallelism().unwrap().get() * (128 << 10),
        _ => 0,
    };
    assert!(grown <= arenas + (1 << 20), "{grown} bytes");
    let places = if engine == Engine::Sequential {
        1
    } else {
        PLACES
    };
    let mut everybody: Vec<_> = (0..places).map(|_| greeted(address).unwrap()).collect();
    everybody
        .iter_mut()
        .for_each(|client| round_trip(client).unwrap());
}

/// Completions overflow, provided buffers run out, and every byte is right.
pub(crate) fn rings_that_overflow(scale: &Scale) {
    let server = Server::start(Engine::Uring, &["--uring-entries", "2"]);
    for (workload, connections, pipeline, size) in [
        (Workload::RequestReply, 1000, 1, 32),
        (Workload::RequestReply, 64, 16, 32),
        (Workload::Stream, 64, 1, 4096),
        (Workload::Churn, 64, 1, 32),
    ] {
        let mut plan = plan(&server.endpoint, workload, scale.overflow);
        plan.connections = connections;
        plan.pipeline = pipeline;
        plan.sizes = ringlab_bench::tape::Mix::of(size);
        let outcome = load::run(&plan, &(), &AtomicBool::new(false)).unwrap();
        println!(
            "uring with 2 entries: {workload} on {connections} connections, {:.0} per second, the \
             slowest {:.1?}",
            outcome.throughput(),
            Duration::from_nanos(outcome.latency.max())
        );
        assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
        assert!(outcome.counts.completed > 0);
    }
}

/// Where no more threads can be had, connections wait, and the processor is not kept busy.
pub(crate) fn threads_refused() {
    const THREADS: usize = 8;
    const CLIENTS: usize = 20;
    let somebody = Somebody::new("64321");
    let server = Server::spawn(&mut somebody.serve(Engine::Threads, &format!("--nproc={THREADS}")));
    let address = server.address();

    let connected: Vec<_> = (0..CLIENTS)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    // Those that have a thread are greeted. The others wait, and nothing but time tells that.
    thread::sleep(Duration::from_millis(500));
    let before = server.processor_time();
    thread::sleep(Duration::from_secs(1));
    let spent = server.processor_time() - before;
    let waiting: Vec<_> = connected
        .into_iter()
        .filter_map(|client| {
            client.set_nonblocking(true).unwrap();
            let greeted = client.peek(&mut [0]).is_ok();
            client.set_nonblocking(false).unwrap();
            (!greeted).then_some(client)
        })
        .collect();
    println!(
        "threads: {THREADS} threads at most: {} of {CLIENTS} clients wait, for {spent:.1?} of \
         processor time in a second",
        waiting.len()
    );
    assert!(!waiting.is_empty(), "the limit has no effect");
    assert!(waiting.len() < CLIENTS, "nobody is served");
    assert!(spent < Duration::from_millis(300), "{spent:?}");
    // The others are gone by now, and there are threads again, though not for all at once.
    for mut client in waiting {
        let mut greeting = [0];
        std::io::Read::read_exact(&mut client, &mut greeting).unwrap();
        round_trip(&mut client).unwrap();
    }
}

/// Where little or no memory may be locked, rings are made without, or it is said what to do.
pub(crate) fn locked_memory_refused() {
    let somebody = Somebody::new("64322");
    for engine in [Engine::TokioUring, Engine::Uring] {
        for limit in ["--memlock=0", "--memlock=65536"] {
            let mut command = somebody.serve(engine, limit);
            let mut server = command.stderr(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            let stdout = server.stdout.take().unwrap();
            BufReader::new(stdout).read_line(&mut line).unwrap();
            if let Some(address) = line.trim_end().strip_prefix("listening on ") {
                println!("{engine}: serves with prlimit {limit}");
                round_trip(&mut greeted(address.parse().unwrap()).unwrap()).unwrap();
                server.kill().unwrap();
                server.wait().unwrap();
                continue;
            }
            let output = server.wait_with_output().unwrap();
            let log = String::from_utf8_lossy(&output.stderr);
            println!("{engine}: with prlimit {limit}: {log}");
            assert_eq!(output.status.code(), Some(1), "{log}");
            for words in ["RLIMIT_MEMLOCK", "ulimit -l", "engines that run here"] {
                assert!(log.contains(words), "{log}");
            }
        }
    }
}

/// A user for whom limits hold: root is exempt from those on processes and on locked memory, see
/// getrlimit(2). As root, servers run as another user, from a copy that this user may read.
struct Somebody {
    id: &'static str,
    directory: tempfile::TempDir,
}

impl Somebody {
    /// Limits are shared by all that a user runs, so everybody needs a user of their own.
    fn new(id: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let copy = directory.path().join("ringlab-bench");
        fs::copy(env!("CARGO_BIN_EXE_ringlab-bench"), copy).unwrap();
        Self { id, directory }
    }

    /// A server with one worker, under a limit as prlimit(1) takes it.
    fn serve(&self, engine: Engine, limit: &str) -> Command {
        let mut command = Command::new("prlimit");
        command.arg(limit);
        if rustix::process::geteuid().is_root() {
            command.args(["setpriv", "--reuid", self.id, "--regid", self.id]);
            command.args(["--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]);
        }
        command
            .arg(self.directory.path().join("ringlab-bench"))
            .args(["serve", "-q", "--workers", "1", "--listen", "127.0.0.1:0"])
            .args(["--engine", engine.name()])
            .stdout(Stdio::piped());
        command
    }
}
