//! Servers that have something to compute for every request: themselves, or somebody else for them.
//!
//! Who hands work to its peer looks cheap to whoever asks what its own process has used.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use ringlab::framing::{Framer, GREETING};
use ringlab_bench::processors::Processors;
use rustix::time::{ClockId, clock_gettime};

/// What there is to compute for a request.
const WORK: Duration = Duration::from_micros(60);

/// The program `labour PORT [SOCKET]`: with a socket, whoever listens on it does the work.
pub(crate) fn run(port: &str, helper: Option<&str>) -> ! {
    let port: u16 = port.parse().expect("a port");
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a free port");
    loop {
        let (stream, _) = listener.accept().expect("a connection");
        let helper = helper.map(|path| UnixStream::connect(path).expect("a helper"));
        thread::spawn(move || converse(stream, helper));
    }
}

fn converse(mut stream: TcpStream, mut helper: Option<UnixStream>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(GREETING)?;
    let mut framer = Framer::new();
    let mut buf = vec![0; 4096];
    loop {
        let received = stream.read(&mut buf)?;
        if received == 0 {
            return Ok(());
        }
        match &mut helper {
            None => compute(),
            Some(helper) => {
                helper.write_all(b"!")?;
                helper.read_exact(&mut [0])?;
            }
        }
        let length = framer.feed(&mut buf[..received]);
        stream.write_all(&buf[..length])?;
    }
}

/// Works for whoever connects, on a processor of the client's, for as long as this process lives.
pub(crate) fn help_on(path: &Path, processors: Processors) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        processors.pin().unwrap();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // A thread begins where the one is that started it.
            thread::spawn(move || -> io::Result<()> {
                loop {
                    stream.read_exact(&mut [0])?;
                    compute();
                    stream.write_all(b"!")?;
                }
            });
        }
    });
}

/// Uses the processor for so long, however often it is taken away meanwhile.
fn compute() {
    let used = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let start = used();
    while used() - start < WORK {
        std::hint::spin_loop();
    }
}
