//! Everything that clients can do to a server short of breaking the protocol of TCP, at once, beside
//! clients that are verified.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringlab::engine::Engine;
use ringlab_bench::load::{self, Outcome, Workload};
use socket2::SockRef;

use crate::Scale;
use crate::server::{Server, greeted, plan, round_trip, wait_until};

/// Threads of the kernel's that two workers may have.
const MOST_KERNEL_THREADS: usize = 2 * 4;

/// What may be found that was not there before, in bytes: pages of stacks and arenas that are first
/// needed late.
const SLACK: usize = 1 << 20;

/// Nobody is left of a hostile crowd, and nothing of it: no thread, descriptor, place or memory.
/// While it is there, others are served.
pub(crate) fn hostile_crowd(engine: Engine, scale: &Scale) {
    let metrics = free_address();
    let metrics_option = metrics.to_string();
    let server = Server::start(
        engine,
        &["--idle-timeout", "3s", "--metrics", &metrics_option],
    );
    let crowd = Crowd {
        server: &server,
        metrics,
        scale,
        over: AtomicBool::new(false),
    };
    let nobody = server.left();
    let undisturbed = verified(&server, scale.undisturbed);
    let without = || {
        let mut now = server.left();
        wait_until("the crowd has left nothing", || {
            now = server.left();
            now.threads <= nobody.threads && now.descriptors <= nobody.descriptors
        });
        now
    };
    // Once, so that everything finds its size.
    crowd.gather(scale.undisturbed);
    let before = without();
    let beside = crowd.gather(scale.hostile);
    let after = without();

    let p99 = |outcome: &Outcome| Duration::from_nanos(outcome.latency.value_at_quantile(0.99));
    println!(
        "{engine}: {:?} of a hostile crowd: others' p99 {:.1?}, undisturbed {:.1?}; at most {} of \
         the kernel's threads; memory {} to {} KiB",
        scale.hostile,
        p99(&beside.others),
        p99(&undisturbed),
        beside.kernel_threads,
        before.memory / 1024,
        after.memory / 1024
    );
    assert!(
        beside.others.failures.is_empty(),
        "{:?}",
        beside.others.failures
    );
    assert!(beside.others.counts.completed > 0);
    assert!(beside.kernel_threads <= MOST_KERNEL_THREADS);
    assert!(after.memory <= before.memory + SLACK, "memory has grown");
    if scale.strict {
        assert!(p99(&beside.others) <= 2 * p99(&undisturbed));
    }
    // Whatever connections share is there for the next.
    let next = verified(&server, scale.undisturbed);
    assert!(next.failures.is_empty(), "{:?}", next.failures);
}

/// Clients whose every byte is compared, at a rate that leaves the processors time for others.
fn verified(server: &Server, duration: Duration) -> Outcome {
    let mut plan = plan(&server.endpoint, Workload::RequestReply, duration);
    plan.connections = 8;
    plan.rate = Some(1000.0);
    plan.sizes = "32:90,4000:9,60000:1".parse().unwrap();
    load::run(&plan, &(), &AtomicBool::new(false)).unwrap()
}

/// An address on which nobody listens just now.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

struct Crowd<'a> {
    server: &'a Server,
    metrics: SocketAddr,
    scale: &'a Scale,
    over: AtomicBool,
}

/// What was seen while the crowd was there.
struct Beside {
    others: Outcome,
    kernel_threads: usize,
}

impl Crowd<'_> {
    /// Everybody at once, for so long.
    fn gather(&self, duration: Duration) -> Beside {
        self.over.store(false, Ordering::Relaxed);
        thread::scope(|scope| {
            let members: [fn(&Self); 6] = [
                Self::urgent,
                Self::resets,
                Self::half_closes,
                Self::one_byte_at_a_time,
                Self::deaf_and_slow,
                Self::metrics,
            ];
            let members = members.map(|member| scope.spawn(move || member(self)));
            let others = scope.spawn(|| verified(self.server, duration));
            let mut kernel_threads = 0;
            while !others.is_finished()
                && !members
                    .iter()
                    .any(std::thread::ScopedJoinHandle::is_finished)
            {
                kernel_threads = kernel_threads.max(self.server.kernel_threads());
                thread::sleep(Duration::from_millis(50));
            }
            self.over.store(true, Ordering::Relaxed);
            Beside {
                others: others.join().unwrap(),
                kernel_threads,
            }
        })
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn greeted(&self) -> TcpStream {
        greeted(self.server.address()).unwrap()
    }

    /// Many, each of which sends an urgent byte now and then.
    fn urgent(&self) {
        let mut clients: Vec<_> = (0..self.scale.urgent).map(|_| self.greeted()).collect();
        let pause = Duration::from_millis(1);
        while !self.is_over() {
            for some in clients.chunks_mut(20) {
                for client in some {
                    // The server may have taken one for idle that has to wait for its turn.
                    if SockRef::from(&*client).send_out_of_band(b"!").is_err() {
                        *client = self.greeted();
                    }
                }
                if self.is_over() {
                    break;
                }
                thread::sleep(pause);
            }
        }
        // Those who are there are served like others.
        let served = clients
            .iter_mut()
            .filter_map(|client| round_trip(client).ok());
        assert!(served.count() > 0);
    }

    /// Resets at every stage of a conversation.
    fn resets(&self) {
        let last_words: [&[u8]; 5] = [b"", b"xx", b"^", b"^in mid-mess", &[b'^'; 20_000]];
        for stage in 0.. {
            if self.is_over() {
                break;
            }
            let mut client = if stage % 7 == 0 {
                TcpStream::connect(self.server.address()).unwrap()
            } else {
                self.greeted()
            };
            let socket = SockRef::from(&client);
            socket.set_linger(Some(Duration::ZERO)).unwrap();
            if stage % 2 == 0 {
                let _ = socket.send_out_of_band(b"!");
            }
            let _ = client.write(last_words[stage % last_words.len()]);
            if stage % 3 == 0 {
                let _ = client.shutdown(Shutdown::Write);
            }
            drop(client);
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Half of them want their replies, the others have gone.
    fn half_closes(&self) {
        let message = [&b"^"[..], &[b'x'; 50_000]].concat();
        for round in 0.. {
            if self.is_over() {
                break;
            }
            let mut client = self.greeted();
            client.write_all(&message).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            if round % 2 == 0 {
                let mut replies = Vec::new();
                client.read_to_end(&mut replies).unwrap();
                assert!(replies == [b'y'; 50_000], "a wrong reply");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn one_byte_at_a_time(&self) {
        let mut clients: Vec<_> = (0..200).map(|_| self.greeted()).collect();
        for index in (0..clients.len()).cycle() {
            if self.is_over() {
                break;
            }
            clients[index].write_all(b"^").unwrap();
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Clients that owe their reading: some read a little now and then, some have closed their half,
    /// and most do neither and are closed by the idle timeout.
    fn deaf_and_slow(&self) {
        let mut clients: Vec<_> = (0..40).map(|_| self.small()).collect();
        let message = [&b"^"[..], &[b'x'; 16 * 1024]].concat();
        while !self.is_over() {
            for (index, client) in clients.iter_mut().enumerate() {
                let result = match index % 4 {
                    0 => client.read(&mut [0; 1000]).map(|_| ()),
                    1 => client.shutdown(Shutdown::Write),
                    _ => Ok(()),
                };
                let result = result.and_then(|()| client.write(&message).map(|_| ()));
                let gone = |error: &std::io::Error| {
                    error.kind() == ErrorKind::ConnectionReset || index % 4 != 1
                };
                match result {
                    Err(error) if error.kind() != ErrorKind::WouldBlock && gone(&error) => {
                        *client = self.small();
                    }
                    _ => {}
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A client that is stuck soon.
    fn small(&self) -> TcpStream {
        let client = self.greeted();
        let socket = SockRef::from(&client);
        socket.set_recv_buffer_size(4096).unwrap();
        socket.set_send_buffer_size(64 * 1024).unwrap();
        client.set_nonblocking(true).unwrap();
        client
    }

    /// A flood of scrapers, of which every other asks for something and no third waits for it.
    fn metrics(&self) {
        let mut waiting = Vec::new();
        for round in 0.. {
            if self.is_over() {
                break;
            }
            if let Ok(mut scraper) = TcpStream::connect(self.metrics) {
                if round % 2 == 0 {
                    let _ = scraper.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
                }
                if round % 3 == 0 {
                    waiting.push((Instant::now(), scraper));
                }
            }
            waiting.retain(|(since, _)| since.elapsed() < Duration::from_secs(1));
            thread::sleep(Duration::from_millis(5));
        }
    }
}
