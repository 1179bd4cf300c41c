//! monoio: an event loop of its own around the ring, a task per connection.
//!
//! After `examples/echo.rs`, and `monoio-server` in the project's own benchmark
//! (<https://github.com/monoio-rs/monoio-benchmark>), which also decides what is configured here.

use std::convert::Infallible;
use std::io;

use io_uring_06::IoUring;
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, UnixListener};
use monoio::{IoUringDriver, Runtime, RuntimeBuilder};
use ringlab::buffer;
use ringlab::framing::{Framer, GREETING};
use socket2::Socket;

use super::AcceptErrors;

/// Serves on this thread. Calls `ready` as soon as it can.
pub(super) fn run(listener: Socket, ready: impl FnOnce()) -> io::Result<Infallible> {
    runtime()?.block_on(async {
        if listener.local_addr()?.is_unix() {
            let listener = UnixListener::from_std(listener.into())?;
            ready();
            Ok(serve(async || Ok(listener.accept().await?.0)).await)
        } else {
            let listener = TcpListener::from_std(listener.into())?;
            ready();
            Ok(serve(async || Ok(listener.accept().await?.0)).await)
        }
    })
}

/// Entries of the submission queue. The guide to its configuration recommends many ("reduce the
/// number of submits, which will significantly reduce the syscall usage"), and this is what its
/// benchmark uses, the most that the kernel gives.
const ENTRIES: u32 = 32_768;

/// Makes a runtime with the cheapest task work that the kernel offers.
///
/// The driver is io_uring's itself. `FusionDriver`, which the examples use, would choose the same
/// here and fall back to epoll elsewhere, and then something else would be measured than the name
/// says. Timers stay off, as they are by default: nothing here needs them.
fn runtime() -> io::Result<Runtime<IoUringDriver>> {
    let builder = || RuntimeBuilder::<IoUringDriver>::new().with_entries(ENTRIES);
    // The documentation is silent about flags. These are what ringlab's engine `tokio-uring` sets
    // as well, and both hold here: the thread that makes the ring is the only one to use it (6.0),
    // and enters the kernel before it looks for completions, so that none need interrupt it (5.19).
    let mut flags = IoUring::builder();
    flags.setup_coop_taskrun().setup_single_issuer();
    match builder().uring_builder(flags).build() {
        // How an older kernel answers flags that it does not know.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => builder().build(),
        other => other,
    }
}

async fn serve<S>(accept: impl AsyncFn() -> io::Result<S>) -> Infallible
where
    S: AsyncReadRent + AsyncWriteRent + 'static,
{
    let mut errors = AcceptErrors::default();
    loop {
        match accept().await {
            // An error ends the connection that it happens on, and nothing else.
            Ok(stream) => drop(monoio::spawn(converse(stream))),
            Err(error) => errors.pause_after(&error),
        }
    }
}

async fn converse(mut stream: impl AsyncReadRent + AsyncWriteRent) -> io::Result<()> {
    stream.write_all(GREETING).await.0?;
    let mut framer = Framer::new();
    let mut buf = Vec::with_capacity(buffer::SMALLEST);
    loop {
        let (result, mut received) = stream.read(buf).await;
        let count = result?;
        if count == 0 {
            return Ok(());
        }
        let replied = framer.feed(&mut received);
        received.truncate(replied);
        let (result, sent) = stream.write_all(received).await;
        result?;

        let size = buffer::next_size(sent.capacity(), count);
        if size == sent.capacity() {
            buf = sent;
            buf.clear();
        } else {
            buf = Vec::with_capacity(size);
        }
    }
}
