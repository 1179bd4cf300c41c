//! Servers of the protocol with a fault each: what the load generator must notice.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringlab::framing::{Framer, GREETING};
use socket2::SockRef;

/// What is wrong with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It computes for a while before each reply.
    Slow,
    /// Of every million bytes of replies one is wrong.
    Corrupt,
    /// It replies twice to the thousandth request.
    Repeat,
    /// It stands still once, all connections of it, for [`STALL`].
    Stall,
    /// It resets a connection in place of the tenth reply.
    Reset,
    /// It closes a connection in place of the tenth reply.
    Close,
    /// It does not answer the tenth request.
    Silent,
    /// It greets with something else.
    Rude,
    /// It ends in place of the tenth reply.
    Die,
    /// It accepts, and says nothing.
    Mute,
    /// It closes what it accepts.
    CloseAtOnce,
    /// It resets what it accepts.
    ResetAtOnce,
    /// It speaks another protocol.
    Http,
    /// It greets twice.
    GreetTwice,
    /// It greets after [`SLOW_GREETING`].
    GreetSlowly,
    /// It greets, and closes.
    GreetAndClose,
    /// It serves its first client, and lets the others wait.
    FirstOnly,
    /// It reads, and never replies.
    Sink,
    /// It replies a byte too much.
    Extra,
    /// It replies a byte too little.
    Short,
    /// It replies with the first two bytes exchanged.
    Swap,
    /// It replies once, and closes its sending side only.
    HalfClose,
    /// It replies a byte at a time, with a pause of [`TRICKLE`] after each.
    Trickle,
    /// It replies after [`LATE`].
    Late,
}

/// How long [`Fault::Stall`] lasts.
pub(crate) const STALL: Duration = Duration::from_millis(200);

/// The request that a stall comes before.
const STALLED: u64 = 1000;

/// What [`Fault::Slow`] computes for.
const SLOWNESS: Duration = Duration::from_micros(50);

/// How long [`Fault::GreetSlowly`] waits.
pub(crate) const SLOW_GREETING: Duration = Duration::from_millis(300);

/// How long [`Fault::Trickle`] pauses.
const TRICKLE: Duration = Duration::from_millis(50);

/// How long [`Fault::Late`] waits.
const LATE: Duration = Duration::from_millis(300);

/// All of them, by name.
pub(crate) const FAULTS: [(&str, Fault); 25] = [
    ("none", Fault::None),
    ("slow", Fault::Slow),
    ("corrupt", Fault::Corrupt),
    ("repeat", Fault::Repeat),
    ("stall", Fault::Stall),
    ("reset", Fault::Reset),
    ("close", Fault::Close),
    ("silent", Fault::Silent),
    ("rude", Fault::Rude),
    ("die", Fault::Die),
    ("mute", Fault::Mute),
    ("close-at-once", Fault::CloseAtOnce),
    ("reset-at-once", Fault::ResetAtOnce),
    ("http", Fault::Http),
    ("greet-twice", Fault::GreetTwice),
    ("greet-slowly", Fault::GreetSlowly),
    ("greet-and-close", Fault::GreetAndClose),
    ("first-only", Fault::FirstOnly),
    ("sink", Fault::Sink),
    ("extra", Fault::Extra),
    ("short", Fault::Short),
    ("swap", Fault::Swap),
    ("half-close", Fault::HalfClose),
    ("trickle", Fault::Trickle),
    ("late", Fault::Late),
];

/// The program `faulty FAULT PORT`.
pub(crate) fn run(fault: &str, port: &str) -> ! {
    let fault = FAULTS
        .iter()
        .find(|(name, _)| *name == fault)
        .expect("a fault")
        .1;
    let port: u16 = port.parse().expect("a port");
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a free port");
    serve(&listener, fault)
}

/// Starts a server in this process. It stays for as long as the process does.
pub(crate) fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || serve(&listener, fault));
    address
}

fn serve(listener: &TcpListener, fault: Fault) -> ! {
    let requests = Arc::new(AtomicU64::new(0));
    let replied = Arc::new(AtomicU64::new(0));
    // A stall is one for all connections: the first to arrive holds it up for the others.
    let standstill = Arc::new(std::sync::Mutex::new(()));
    for number in 0.. {
        let Ok((stream, _)) = listener.accept() else {
            continue;
        };
        let connection = Connection {
            stream,
            fault,
            number,
            requests: Arc::clone(&requests),
            replied: Arc::clone(&replied),
            standstill: Arc::clone(&standstill),
        };
        thread::spawn(move || connection.converse());
    }
    unreachable!("numbers do not end")
}

struct Connection {
    stream: TcpStream,
    fault: Fault,
    /// How many were accepted before it.
    number: usize,
    /// Reads answered, by all connections.
    requests: Arc<AtomicU64>,
    /// Bytes of replies, of all connections.
    replied: Arc<AtomicU64>,
    standstill: Arc<std::sync::Mutex<()>>,
}

impl Connection {
    fn converse(mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        match self.fault {
            Fault::Mute => return self.sink(),
            Fault::FirstOnly if self.number > 0 => return self.sink(),
            Fault::CloseAtOnce => return Ok(()),
            Fault::ResetAtOnce => return self.reset(),
            Fault::GreetSlowly => thread::sleep(SLOW_GREETING),
            _ => {}
        }
        self.stream.write_all(match self.fault {
            Fault::Rude => b"!",
            Fault::Http => b"HTTP/1.1 400 Bad Request\r\n",
            Fault::GreetTwice => b"**",
            _ => GREETING,
        })?;
        match self.fault {
            Fault::GreetAndClose => return Ok(()),
            Fault::Sink => return self.sink(),
            _ => {}
        }
        let mut framer = Framer::new();
        let mut buf = vec![0; 64 * 1024];
        loop {
            let received = self.stream.read(&mut buf)?;
            if received == 0 {
                return Ok(());
            }
            let length = framer.feed(&mut buf[..received]);
            let mut reply = &mut buf[..length];
            let request = self.requests.fetch_add(1, Ordering::SeqCst);
            let before = self.replied.fetch_add(length as u64, Ordering::SeqCst);
            match self.fault {
                Fault::None | Fault::Rude => {}
                Fault::Slow => compute(SLOWNESS),
                Fault::Corrupt => {
                    let next = before.next_multiple_of(1_000_000).max(1_000_000);
                    if let Some(byte) = reply.get_mut((next - before) as usize) {
                        *byte ^= 0x10;
                    }
                }
                Fault::Repeat if request == 1000 => self.stream.write_all(reply)?,
                Fault::Stall => {
                    let guard = self.standstill.lock().unwrap();
                    if request == STALLED {
                        thread::sleep(STALL);
                    }
                    drop(guard);
                }
                Fault::Reset if request == 10 => return self.reset(),
                Fault::Close if request == 10 => return Ok(()),
                Fault::Silent if request == 10 => continue,
                Fault::Die if request == 10 => {
                    eprintln!("faulty: ended on purpose");
                    process::exit(3);
                }
                // What comes back is shorter than what came.
                Fault::Extra => reply = &mut buf[..length + 1],
                Fault::Short => reply = &mut buf[..length.saturating_sub(1)],
                Fault::Swap if length > 1 => reply.swap(0, 1),
                Fault::HalfClose => {
                    self.stream.write_all(reply)?;
                    self.stream.shutdown(Shutdown::Write)?;
                    return self.sink();
                }
                Fault::Trickle => {
                    for byte in reply {
                        self.stream.write_all(&[*byte])?;
                        thread::sleep(TRICKLE);
                    }
                    continue;
                }
                Fault::Late => thread::sleep(LATE),
                _ => {}
            }
            self.stream.write_all(reply)?;
        }
    }

    /// Reads until the client has closed.
    fn sink(mut self) -> io::Result<()> {
        io::copy(&mut self.stream, &mut io::sink()).map(drop)
    }

    fn reset(self) -> io::Result<()> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
    }
}

fn compute(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}
