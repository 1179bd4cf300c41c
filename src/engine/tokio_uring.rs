//! Completion: a task per connection on io_uring, through tokio-uring. The default engine.
//!
//! A read hands its buffer to the kernel and gets it back, filled, with the completion; the framer
//! turns the bytes into the reply in place; the write hands the same buffer to the kernel again.
//! No copy, a new buffer only where the next one should be larger or smaller, and at any time
//! exactly one owner:
//!
//! ```text
//!    task ──read(buf)──▶ kernel ──completion──▶ task: feed(buf) ──write(buf)──▶ kernel ──▶ …
//! ```
//!
//! The rule that shapes this file: **a pending operation is never dropped.** Dropping its future
//! cancels nothing. The kernel keeps the buffer and the socket, and an accept that completes
//! later leaks its descriptor. So no operation runs under a timeout. Whoever wants a connection
//! gone calls `shutdown(2)` on its socket, the pending operation completes, and the task that
//! awaits it ends like any other.
//!
//! An operation waits in the kernel without a thread, with one exception: one that is woken again
//! and again and finds nothing to do is left to a thread that blocks in it. Clients can bring that
//! about, see [`super::KERNEL_THREAD_PATIENCE`]. Then it fails with EAGAIN, and the connection
//! waits once by readiness, through the runtime's epoll, before it tries again.

use std::cell::{OnceCell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::Shutdown as Direction;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use slab::Slab;
use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{self, UnixListener};
use tokio::select;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{self, MissedTickBehavior};
use tokio_uring::Runtime;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::{TcpListener, TcpStream, UnixStream};

use super::MOST_KERNEL_THREADS;
use super::signal::Signal;
use crate::buffer;
use crate::framing::{Framer, GREETING};
use crate::idle::{self, Quiet};
use crate::worker::{Accepting, Ended, OnFailure, Traffic, Worker};

pub(super) fn run(worker: Worker, listener: Socket) -> io::Result<()> {
    // The ring belongs to the thread that makes it: SINGLE_ISSUER.
    runtime()?.block_on(serve(worker, listener))
}

/// Makes a runtime with the cheapest task work that the kernel offers.
fn runtime() -> io::Result<Runtime> {
    let mut flags = tokio_uring::uring_builder();
    // Completions wait for this thread's next system call instead of interrupting it (5.19), and
    // the kernel need not guard against other submitters (6.0).
    flags.setup_coop_taskrun().setup_single_issuer();
    // Tried on a ring alone: a runtime whose ring cannot be made leaks its other descriptors
    // (tokio-uring 0.5).
    let mut trial = flags.build(1);
    if matches!(&trial, Err(error) if error.kind() == io::ErrorKind::InvalidInput) {
        // How an older kernel answers flags that it does not know.
        flags = tokio_uring::uring_builder();
        trial = flags.build(1);
    }
    // All rings of a thread share the kernel's threads and this limit. It is a precaution, and
    // kernels before 5.15 do without.
    let _ = trial?
        .submitter()
        .register_iowq_max_workers(&mut [0, MOST_KERNEL_THREADS]);
    Runtime::new(tokio_uring::builder().uring_builder(&flags))
}

/// Makes a ring and moves a byte through it, as every connection will.
pub(super) fn try_out() -> io::Result<()> {
    let (here, there) = std::os::unix::net::UnixStream::pair()?;
    runtime()?.block_on(async {
        let (here, there) = (UnixStream::from_std(here), UnixStream::from_std(there));
        here.write(GREETING).submit().await.0?;
        there.read(vec![0; 1]).await.0?;
        Ok(())
    })
}

/// What the tasks of one worker share.
struct Service {
    worker: Worker,
    connections: RefCell<Slab<Rc<Connection>>>,
    /// A connection has closed. Only the task that accepts waits for this.
    closed: Notify,
}

struct Connection {
    /// Made when it is first needed. It must be gone before the descriptor is.
    readiness: OnceCell<AsyncFd<RawFd>>,
    /// TCP or Unix: once connected, the same operations serve both.
    stream: TcpStream,
    quiet: Quiet,
}

async fn serve(worker: Worker, listener: Socket) -> io::Result<()> {
    let listener = Listener::new(listener, worker.inherited)?;
    let drain = Signal::new(&worker.shutdown.drain)?;
    let cut = Signal::new(&worker.shutdown.cut)?;
    let service = Rc::new(Service {
        worker,
        connections: RefCell::default(),
        closed: Notify::new(),
    });
    tokio_uring::spawn(service.clone().close_idle_connections());
    (service.worker.ready)();

    service.accept_until(&drain, listener).await;

    select! {
        () = service.all_closed() => return Ok(()),
        () = cut.given() => {}
    }
    for (_, connection) in service.connections.borrow().iter() {
        connection.end();
    }
    service.all_closed().await;
    Ok(())
}

impl Service {
    /// Accepts and serves until the drain begins, which completes the pending accept.
    async fn accept_until(self: &Rc<Self>, drain: &Signal, listener: Listener) {
        let mut accepting = Accepting::default();
        loop {
            while self.connections.borrow().len() >= self.worker.max_connections {
                select! {
                    () = self.closed.notified() => {}
                    () = drain.given() => return,
                }
            }
            for pause in self.worker.pauses_while_ahead() {
                match pause {
                    Duration::ZERO => yield_now().await,
                    pause => time::sleep(pause).await,
                }
            }
            match listener.accept(&self.worker, drain).await {
                Ok(stream) => {
                    accepting.succeeded();
                    tokio_uring::spawn(self.clone().serve_connection(self.admit(stream)));
                }
                Err(error) => match accepting.failed(&error, &self.worker.shutdown) {
                    OnFailure::Stop => return,
                    OnFailure::Retry => {}
                    OnFailure::Wait(time) => time::sleep(time).await,
                },
            }
        }
    }

    fn admit(&self, stream: TcpStream) -> usize {
        self.worker.counters().opened();
        self.connections.borrow_mut().insert(Rc::new(Connection {
            readiness: OnceCell::new(),
            stream,
            quiet: Quiet::default(),
        }))
    }

    async fn serve_connection(self: Rc<Self>, key: usize) {
        let connection = Rc::clone(&self.connections.borrow()[key]);
        let mut place = Place {
            service: &self,
            key,
            ended: Ended::Failed,
        };
        let result = connection.converse(&self.worker.counters().traffic).await;
        place.ended = match result {
            _ if connection.quiet.is_idle() => Ended::TimedOut,
            _ if self.worker.shutdown.cut.is_set() => Ended::Cut,
            Ok(()) => Ended::Closed,
            Err(error) => {
                tracing::debug!(%error, "connection failed");
                Ended::Failed
            }
        };
    }

    async fn all_closed(&self) {
        while !self.connections.borrow().is_empty() {
            self.closed.notified().await;
        }
    }

    async fn close_idle_connections(self: Rc<Self>) {
        let Some(timeout) = self.worker.idle_timeout else {
            return;
        };
        let mut sweeps = time::interval(idle::period(timeout));
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            sweeps.tick().await;
            for (_, connection) in self.connections.borrow().iter() {
                if connection.quiet.sweep() {
                    connection.end();
                }
            }
        }
    }
}

/// A connection's claim to its place in the table, which ends with its task: even one that panics
/// must not keep a drain waiting.
struct Place<'a> {
    service: &'a Service,
    key: usize,
    ended: Ended,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.service.connections.borrow_mut().remove(self.key);
        self.service.worker.counters().closed(self.ended);
        self.service.closed.notify_one();
    }
}

impl Connection {
    async fn converse(&self, traffic: &Traffic) -> io::Result<()> {
        self.send(GREETING, traffic).await.0?;
        let mut framer = Framer::new();
        let mut buf = Vec::with_capacity(buffer::SMALLEST);
        loop {
            let (result, received) = self.receive(buf).await;
            let count = result?;
            if count == 0 {
                return Ok(());
            }
            self.quiet.moved();
            traffic.received.add(count);

            let mut reply = received;
            let replied = framer.feed(&mut reply);
            reply.truncate(replied);
            let (result, sent) = self.send(reply, traffic).await;
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

    /// Receives into `buf`. An operation that the kernel leaves to a thread is interrupted when the
    /// process is stopped and goes on, like a system call; see `signal(7)`.
    async fn receive(&self, mut buf: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        loop {
            match self.stream.read(buf).await {
                (Err(error), unused) if error.kind() == io::ErrorKind::Interrupted => buf = unused,
                (Err(error), unused) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(error) = self.ready(Interest::READABLE).await {
                        return (Err(error), unused);
                    }
                    buf = unused;
                }
                other => return other,
            }
        }
    }

    /// Sends all of `reply`: with one write, unless the socket's send buffer fills or the write is
    /// interrupted.
    async fn send<T: BoundedBuf>(&self, reply: T, traffic: &Traffic) -> (io::Result<()>, T::Buf) {
        let mut rest = reply.slice_full();
        while rest.bytes_init() > 0 {
            let (result, slice) = self.stream.write(rest).submit().await;
            match result {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), slice.into_inner()),
                Ok(sent) => {
                    self.quiet.moved();
                    traffic.sent.add(sent);
                    rest = slice.slice(sent..);
                    if rest.bytes_init() > 0 && self.readiness.get().is_some() {
                        // The next write would be left to a thread like one before.
                        if let Err(error) = self.ready(Interest::WRITABLE).await {
                            return (Err(error), rest.into_inner());
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => rest = slice,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(error) = self.ready(Interest::WRITABLE).await {
                        return (Err(error), slice.into_inner());
                    }
                    rest = slice;
                }
                Err(error) => return (Err(error), slice.into_inner()),
            }
        }
        (Ok(()), rest.into_inner())
    }

    /// Waits until the socket may be read or written, without an operation in the ring.
    async fn ready(&self, interest: Interest) -> io::Result<()> {
        let readiness = match self.readiness.get() {
            Some(readiness) => readiness,
            None => {
                let both = Interest::READABLE | Interest::WRITABLE;
                #[expect(
                    deprecated,
                    reason = "its successor is unsafe: the descriptor must stay open, as it does here"
                )]
                let made = AsyncFd::with_interest(self.stream.as_raw_fd(), both)?;
                self.readiness.get_or_init(|| made)
            }
        };
        // What it tells next is what happens from here on.
        readiness.ready(interest).await?.clear_ready();
        Ok(())
    }

    /// Completes the pending read with 0, or the pending write with an error. The task that awaits
    /// it closes the socket.
    fn end(&self) {
        let _ = self.stream.shutdown(Direction::Both);
    }
}

/// The shared listening socket, as this worker's runtime accepts from it.
enum Listener {
    /// Through the ring.
    Tcp(TcpListener),
    /// By readiness, on the same runtime: only a shutdown would end an accept that is pending in
    /// the ring, and this socket must not be shut down.
    Inherited(net::TcpListener),
    /// By readiness as well: tokio-uring can only accept from a Unix socket that it has bound
    /// itself, with SO_REUSEPORT, which Linux refuses for Unix sockets since 6.13.
    Unix(UnixListener),
}

impl Listener {
    fn new(socket: Socket, inherited: bool) -> io::Result<Self> {
        let unix = socket.local_addr()?.is_unix();
        socket.set_nonblocking(unix || inherited)?;
        if unix {
            UnixListener::from_std(socket.into()).map(Self::Unix)
        } else if inherited {
            net::TcpListener::from_std(socket.into()).map(Self::Inherited)
        } else {
            Ok(Self::Tcp(TcpListener::from_std(socket.into())))
        }
    }

    /// The next connection; fails once the drain has begun.
    async fn accept(&self, worker: &Worker, drain: &Signal) -> io::Result<TcpStream> {
        let stream: Socket = match self {
            // The drain shuts the socket down, which completes the pending accept.
            Self::Tcp(listener) => loop {
                match listener.accept().await {
                    // It was left to a thread, like an operation of a connection.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    accepted => return Ok(accepted?.0),
                }
            },
            Self::Inherited(listener) => {
                let accepted = poll_fn(|context| listener.poll_accept(context));
                let (stream, _) = unless_given(drain, accepted).await?;
                stream.into_std()?.into()
            }
            Self::Unix(listener) => {
                let accepted = poll_fn(|context| listener.poll_accept(context));
                let (stream, _) = unless_given(drain, accepted).await?;
                stream.into_std()?.into()
            }
        };
        worker.settle(&stream);
        // On a non-blocking socket a pending read would complete at once with EAGAIN.
        stream.set_nonblocking(false)?;
        // Named after TCP, but read(2) and write(2) do not ask what kind of socket it is.
        Ok(TcpStream::from_std(stream.into()))
    }
}

/// What is `accepted`; fails once the drain has begun.
///
/// Nothing is pending in the kernel here, so the drain itself can be awaited. It has to be: an
/// inherited listener is not shut down, and a non-blocking Unix listener that is shut down is
/// readable for ever and yet says EAGAIN. Unlike `accept`, `poll_accept` lets other tasks run
/// between its attempts.
async fn unless_given<T>(
    drain: &Signal,
    accepted: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    select! {
        // In this order: on an inherited listener others wait for the next server.
        biased;
        () = drain.given() => Err(io::ErrorKind::NotConnected.into()),
        accepted = accepted => accepted,
    }
}
