//! compio: an executor of its own over a proactor, which is io_uring here; a task per connection.
//!
//! After `examples/net.rs`, and the documentation of `ProactorBuilder` for what is configured.

use std::convert::Infallible;
use std::io;

use compio::BufResult;
use compio::driver::ProactorBuilder;
use compio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use compio::net::{TcpListener, UnixListener};
use compio::runtime::{self, Runtime, RuntimeBuilder};
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

/// Makes a runtime with the cheapest task work that the kernel offers.
fn runtime() -> io::Result<Runtime> {
    let mut proactor = ProactorBuilder::new();
    proactor
        // "Optimize performance for most cases, especially compio is a single thread runtime"
        // (5.19); "should be enabled with coop_taskrun" (5.19); a hint that holds here (6.0).
        .coop_taskrun(true)
        .taskrun_flag(true)
        .single_issuer(true);
    match RuntimeBuilder::new().with_proactor(proactor).build() {
        // How an older kernel answers flags that it does not know.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Runtime::new(),
        other => other,
    }
}

async fn serve<S>(accept: impl AsyncFn() -> io::Result<S>) -> Infallible
where
    S: AsyncRead + AsyncWrite + 'static,
{
    let mut errors = AcceptErrors::default();
    loop {
        match accept().await {
            // An error ends the connection that it happens on, and nothing else.
            Ok(stream) => runtime::spawn(converse(stream)).detach(),
            Err(error) => errors.pause_after(&error),
        }
    }
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite) -> io::Result<()> {
    stream.write_all(GREETING).await.0?;
    let mut framer = Framer::new();
    let mut buf = Vec::with_capacity(buffer::SMALLEST);
    loop {
        let BufResult(result, mut received) = stream.read(buf).await;
        let count = result?;
        if count == 0 {
            return Ok(());
        }
        let replied = framer.feed(&mut received);
        received.truncate(replied);
        let BufResult(result, sent) = stream.write_all(received).await;
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
