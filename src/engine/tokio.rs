//! Readiness, a task per connection: what most Rust programs do today, through tokio.
//!
//! A worker is a runtime on its own thread, a connection a task that reads, feeds and writes as a
//! thread would, and gives way to others where a thread would block. Below lies epoll: it reports
//! that a socket can be read, and the read is then an ordinary system call into a buffer that the
//! task lends for just that long. So a task can be aborted wherever it waits, and leaves nothing
//! behind. That is the difference to read for in `tokio_uring.rs`.
//!
//! Tokio's own streams take a read that does not fill its buffer for one that has emptied the
//! socket, and wait for the next event. That saves a system call, and is wrong at urgent data: a
//! read stops there (`tcp(7)`), and what follows may have been reported long ago. So [`Stream`] is
//! a descriptor on tokio's epoll that asks for news of urgent data as well, and does the same only
//! where there is none.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use slab::Slab;
use socket2::Socket;
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};
use tokio::runtime::{self, LocalRuntime};
use tokio::select;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, consume_budget, spawn_local, yield_now};
use tokio::time::{self, MissedTickBehavior};

use super::signal::Signal;
use crate::buffer;
use crate::framing::{Framer, GREETING};
use crate::idle::{self, Quiet};
use crate::worker::{Accepting, Ended, OnFailure, Traffic, Worker};

pub(super) fn run(worker: Worker, listener: Socket) -> io::Result<()> {
    runtime()?.block_on(serve(worker, listener))
}

fn runtime() -> io::Result<LocalRuntime> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(runtime::LocalOptions::default())
}

/// What the tasks of one worker share.
struct Service {
    worker: Worker,
    connections: RefCell<Slab<Connection>>,
    /// A connection has closed. Only the task that accepts waits for this.
    closed: Notify,
}

/// A connection as seen from outside its task.
struct Connection {
    quiet: Rc<Quiet>,
    task: AbortHandle,
}

async fn serve(worker: Worker, listener: Socket) -> io::Result<()> {
    let listener = Listener::new(listener)?;
    let drain = Signal::new(&worker.shutdown.drain)?;
    let cut = Signal::new(&worker.shutdown.cut)?;
    let service = Rc::new(Service {
        worker,
        connections: RefCell::default(),
        closed: Notify::new(),
    });
    spawn_local(service.clone().close_idle_connections());
    (service.worker.ready)();

    service.accept_until(&drain, listener).await;

    select! {
        () = service.all_closed() => return Ok(()),
        () = cut.given() => {}
    }
    for (_, connection) in service.connections.borrow().iter() {
        connection.task.abort();
    }
    service.all_closed().await;
    Ok(())
}

impl Service {
    /// Accepts and serves until the drain begins.
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
            let accepted = select! {
                // In this order: on an inherited listener others wait for the next server.
                biased;
                () = drain.given() => return,
                accepted = listener.accept(self) => accepted,
            };
            match accepted {
                Ok(()) => accepting.succeeded(),
                Err(error) => match accepting.failed(&error, &self.worker.shutdown) {
                    OnFailure::Stop => return,
                    OnFailure::Retry => {}
                    OnFailure::Wait(time) => time::sleep(time).await,
                },
            }
        }
    }

    /// Gives a new connection its place in the table and its task.
    fn admit(self: &Rc<Self>, socket: OwnedFd) -> io::Result<()> {
        self.worker.settle(&socket);
        let stream = Stream::new(socket)?;
        self.worker.counters().opened();
        let quiet = Rc::new(Quiet::default());
        let mut connections = self.connections.borrow_mut();
        let entry = connections.vacant_entry();
        let place = Place {
            service: Rc::clone(self),
            key: entry.key(),
            quiet: Rc::clone(&quiet),
            ended: None,
        };
        let task = spawn_local(place.serve(stream)).abort_handle();
        entry.insert(Connection { quiet, task });
        Ok(())
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
                    connection.task.abort();
                }
            }
        }
    }
}

/// A connection's claim to its place in the table, which ends with its task: when the task has
/// finished, is aborted, or panics.
struct Place {
    service: Rc<Service>,
    key: usize,
    quiet: Rc<Quiet>,
    /// `None` while the conversation goes on, and for ever if it is aborted.
    ended: Option<Ended>,
}

impl Place {
    async fn serve(mut self, stream: Stream) {
        let traffic = &self.service.worker.counters().traffic;
        let result = converse(stream, &self.quiet, traffic).await;
        self.ended = Some(match result {
            Ok(()) => Ended::Closed,
            Err(error) => {
                tracing::debug!(%error, "connection failed");
                Ended::Failed
            }
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let worker = &self.service.worker;
        let ended = self.ended.unwrap_or_else(|| {
            if self.quiet.is_idle() {
                Ended::TimedOut
            } else if worker.shutdown.cut.is_set() {
                Ended::Cut
            } else {
                Ended::Failed
            }
        });
        self.service.connections.borrow_mut().remove(self.key);
        worker.counters().closed(ended);
        self.service.closed.notify_one();
    }
}

async fn converse(stream: Stream, quiet: &Quiet, traffic: &Traffic) -> io::Result<()> {
    stream.send(GREETING).await?;
    traffic.sent.add(GREETING.len());
    let mut framer = Framer::new();
    let mut buf = vec![0; buffer::SMALLEST];
    loop {
        let received = stream.receive(&mut buf).await?;
        if received == 0 {
            return Ok(());
        }
        quiet.moved();
        traffic.received.add(received);
        let replied = framer.feed(&mut buf[..received]);
        let mut rest = &buf[..replied];
        while !rest.is_empty() {
            let sent = stream.send(rest).await?;
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            quiet.moved();
            traffic.sent.add(sent);
            rest = &rest[sent..];
        }
        let size = buffer::next_size(buf.len(), received);
        if size != buf.len() {
            buf = vec![0; size];
        }
    }
}

/// A connection's socket.
struct Stream(AsyncFd<OwnedFd>);

impl Stream {
    fn new(socket: OwnedFd) -> io::Result<Self> {
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for the sake of other types than OwnedFd"
        )]
        AsyncFd::with_interest(socket, interest).map(Self)
    }

    /// Receives what is there, once something is; 0 bytes at the end.
    async fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            // Who always has something to read is not the only one.
            consume_budget().await;
            let mut guard = self
                .0
                .ready(Interest::READABLE | Interest::PRIORITY)
                .await?;
            match recv(&self.0, &mut *buf, RecvFlags::empty()) {
                Ok((received, _)) => {
                    if received < buf.len() && !guard.ready().is_priority() {
                        guard.clear_ready_matching(Ready::READABLE);
                    }
                    return Ok(received);
                }
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends what there is room for, once there is room.
    async fn send(&self, reply: &[u8]) -> io::Result<usize> {
        loop {
            let mut guard = self.0.ready(Interest::WRITABLE).await?;
            match send(&self.0, reply, SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    if sent < reply.len() {
                        guard.clear_ready_matching(Ready::WRITABLE);
                    }
                    return Ok(sent);
                }
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The shared listening socket, as this worker's runtime accepts from it.
struct Listener(AsyncFd<Socket>);

impl Listener {
    fn new(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for the sake of other types than Socket"
        )]
        AsyncFd::with_interest(socket, Interest::READABLE).map(Self)
    }

    /// Waits for the next connection and has it served.
    ///
    /// Accepted by hand, because tokio would register the socket as its own stream.
    async fn accept(&self, service: &Rc<Service>) -> io::Result<()> {
        loop {
            consume_budget().await;
            let mut guard = self.0.readable().await?;
            match accept_with(&self.0, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => return service.admit(socket),
                // A Unix listener that is shut down is readable for ever and yet says EAGAIN.
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
