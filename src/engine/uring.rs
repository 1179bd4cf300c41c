//! Completion: one loop over the raw ring, with every feature that this kernel has for it.
//!
//! At its best a connection costs one submission for all it will ever receive, and from then on
//! one per reply:
//!
//! ```text
//!    multishot accept ──▶ connection ──▶ multishot receive ──▶ chunk of a provided buffer
//!                                              ▲                        │ feed, in place
//!                                              └── buffer goes back ◀── send
//! ```
//!
//! Replies are queued while completions are handled and leave with the same system call that waits
//! for the next ones. They are sent without waiting (MSG_DONTWAIT), so a send is complete when its
//! submission is, and its buffer free. If the socket's send buffer is full, what is left is moved
//! out of the shared buffers and sent when the kernel reports room; until that is done, nothing
//! more is received from that client. So no client that does not read can keep a shared buffer.
//!
//! Everything that may happen to a connection only changes its state; [`Service::advance`] then
//! looks at the state and starts what is due. Features that the kernel lacks change a submission
//! or two, never the loop: see [`crate::features`] and `uring/ring.rs`.

#[expect(unsafe_code, reason = "memory that the kernel reads and writes")]
mod buffers;
#[expect(unsafe_code, reason = "memory that the kernel reads and writes")]
mod ring;
mod trial;
mod user_data;

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use slab::Slab;
use socket2::Socket;

use self::ring::{Data, Event, Receive, Reply, Ring, Stream, What};
use self::trial::try_out;
use self::user_data::Key;
use crate::buffer;
use crate::features::{Feature, Features};
use crate::framing::{Framer, GREETING};
use crate::idle::{self, Quiet};
use crate::worker::{Door, Ended, Next, Traffic, Worker};

/// Bytes received in one batch that make a connection a stream. Streams are served better by large
/// buffers of their own, which also bounds what one of them can have on its way. It still waits
/// with provided buffers, and is a stream for as long as what comes next fills one of these.
const STREAM: usize = 4 * PROVIDED;

/// How often a multishot receive on which nothing comes is submitted anew, see
/// [`Service::check`]; and where that may be needed often.
const CHECK: Duration = Duration::from_secs(10);
const CHECK_OFTEN: Duration = Duration::from_secs(1);

/// How many connections at most are looked at in one go.
const CHECKED_AT_ONCE: usize = 1024;

/// For how many replies a connection keeps room while it has none.
const FEW_REPLIES: usize = 4;

/// The size of a provided buffer.
const PROVIDED: usize = buffers::SIZE;

/// Whether the engine runs here at all, with none of the features.
pub(super) fn try_without_features() -> io::Result<()> {
    try_out(Features::NONE)
}

/// Whether this kernel has `feature`, found by trying.
///
/// # Errors
///
/// How the kernel refused.
pub(crate) fn try_feature(feature: Feature) -> io::Result<()> {
    try_out(Features::NONE.with(feature).with_needed())
}

/// Whether all of `features` work together.
///
/// # Errors
///
/// How the kernel refused.
pub(crate) fn try_features(features: Features) -> io::Result<()> {
    try_out(features)
}

pub(super) fn run(worker: Worker, listener: Socket) -> io::Result<()> {
    let features = worker.ring.features;
    let multishot_room = multishot_room(&worker);
    let files = file_table(worker.max_connections + multishot_room.unwrap_or(0));
    let mut io_uring = ring::set_up(worker.ring.entries, features)?;
    let ring = Ring::new(&mut io_uring, features, files)?;
    let mut service = Service {
        files: if features.has(Feature::DirectDescriptors) {
            files as usize
        } else {
            usize::MAX
        },
        multishot_room,
        worker,
        listener,
        ring,
        accepting: Pending::Idle,
        accepts_on: false,
        reconsider: false,
        sleeping: false,
        door: Door::default(),
        connections: Slab::new(),
        parked: VecDeque::new(),
        accepted: 0,
        due: Vec::new(),
        ran_out: false,
        checking: false,
        next_check: 0,
    };
    service.serve()
}

/// Places in the file table. The kernel makes it no larger than the limit on descriptors, which
/// has no other effect on it, and than 2^20 (IORING_MAX_FIXED_FILES).
fn file_table(connections: usize) -> u32 {
    const MOST: u32 = 1 << 20;
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let limit = u32::try_from(limit).unwrap_or(u32::MAX).min(MOST);
    u32::try_from(connections).unwrap_or(u32::MAX).min(limit)
}

/// How many more connections must be allowed for the kernel to accept by itself; `None` if it
/// must not.
///
/// A multishot accept takes all that waits in the backlog at once. Beyond the limit that would be
/// too many, and beside peers it would be theirs, too.
fn multishot_room(worker: &Worker) -> Option<usize> {
    let longest_backlog = fs::read_to_string("/proc/sys/net/core/somaxconn")
        .ok()
        .and_then(|text| text.trim().parse::<usize>().ok())
        .unwrap_or(65_535);
    let alone = worker.crew.len() == 1;
    let features = worker.ring.features;
    (alone && features.has(Feature::MultishotAccept)).then_some(2 * longest_backlog)
}

/// An operation that completes some time after it was submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pending {
    /// It is not submitted.
    Idle,
    Active,
    /// Active, and there is an attempt to cancel it.
    Cancelled,
}

struct Service<'r> {
    worker: Worker,
    listener: Socket,
    ring: Ring<'r>,
    accepting: Pending,
    /// Whether the pending accept goes on after the first connection.
    accepts_on: bool,
    /// Whether to think again about accepting.
    reconsider: bool,
    /// Whether [`Event::Slept`] will happen.
    sleeping: bool,
    door: Door,
    /// How many connections the file table has places for.
    files: usize,
    multishot_room: Option<usize>,
    connections: Slab<Connection>,
    /// Accepted beyond the limit, and not served before there is room: a multishot accept goes on
    /// while this thread is kept elsewhere.
    parked: VecDeque<Stream>,
    /// Connections so far: each has its generation from here.
    accepted: u64,
    /// Connections whose state has changed.
    due: Vec<Key>,
    /// Whether the provided buffers were too few for this batch.
    ran_out: bool,
    /// Whether [`Event::Check`] will happen, and the first place in the table to look at then.
    checking: bool,
    next_check: usize,
}

struct Connection {
    key: Key,
    stream: Stream,
    framer: Framer,
    quiet: Quiet,
    receiving: Pending,
    /// Whether a send is in flight. There is one at a time, and it completes with the next call of
    /// the kernel.
    sending: bool,
    /// Replies to send next, all at once.
    replies: Vec<Reply>,
    /// Whether the socket had no room for the last that was sent.
    stuck: bool,
    /// Whether room is being watched for. It goes on when there is, and reports nothing then.
    watches_room: bool,
    /// Whether a receive was left to a thread of the kernel's, see
    /// [`KERNEL_THREAD_PATIENCE`](super::KERNEL_THREAD_PATIENCE). From then on none waits: data is
    /// watched for, and received when it is there.
    careful: bool,
    watches_data: bool,
    /// With `careful`: whether data may be there.
    readable: bool,
    /// Whether something was received since the last check.
    active: bool,
    /// Whether a multishot receive has brought what needs no reply, so that nothing is sent.
    unanswered: bool,
    /// Whether the last receive found no provided buffer.
    starved: bool,
    /// How to receive next; the pending receive may be of another kind.
    receive: Receive,
    /// Whether the pending receive goes on until it is cancelled.
    repeats: bool,
    /// Bytes received into provided buffers in this batch.
    provided: usize,
    /// The client has closed its sending side.
    finished: bool,
    /// The connection is to be closed as soon as nothing is pending.
    ended: Option<Ended>,
    /// Whether it is in [`Service::due`].
    is_due: bool,
}

impl Service<'_> {
    fn serve(&mut self) -> io::Result<()> {
        let shutdown = &self.worker.shutdown;
        self.ring.watch(&*shutdown.drain, &*shutdown.cut);
        self.sleep_until_sweep();
        (self.worker.ready)();
        self.update_accept();
        while self.is_needed() {
            self.ring.submit_and_wait()?;
            while let Some(event) = self.ring.next_event() {
                self.handle(event);
            }
            if mem::take(&mut self.ran_out) {
                self.ring.provide_for(self.due.len());
            }
            // All replies to one connection that this batch has caused leave together.
            while let Some(key) = self.due.pop() {
                self.advance(key);
            }
            self.update_accept();
        }
        self.ring.log(self.worker.index);
        Ok(())
    }

    /// Whether there is, or may yet be, a connection to serve.
    fn is_needed(&self) -> bool {
        !self.connections.is_empty()
            || self.ring.is_closing()
            || self.accepting != Pending::Idle
            || !self.worker.shutdown.drain.is_set()
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Accepted { result, more } => self.accepted(result, more),
            Event::Received { key, result, more } => self.received(key, result, more),
            Event::Sent {
                key,
                result,
                replies,
            } => self.sent(key, result, replies),
            Event::CancelledRecv { key, found } => {
                // It completes by itself, or escaped: then it is cancelled again.
                self.change(key, |connection| {
                    if !found && connection.receiving == Pending::Cancelled {
                        connection.receiving = Pending::Active;
                    }
                });
            }
            Event::Ready { key, what, more } => {
                self.change(key, |connection| match what {
                    What::Data => {
                        connection.readable = true;
                        connection.watches_data = more;
                    }
                    What::Room => {
                        connection.stuck = false;
                        connection.watches_room = more;
                    }
                });
            }
            Event::CancelledAccept { found } => {
                if !found && self.accepting == Pending::Cancelled {
                    self.accepting = Pending::Active;
                    self.reconsider = true;
                }
            }
            Event::Slept => self.sleeping = false,
            Event::Sweep => self.sweep(),
            Event::Check => self.check(),
            Event::Drain => {
                self.reconsider = true;
                // Nobody is waited for who has gone.
                (0..self.connections.capacity()).for_each(|place| self.receive_anew(place));
                for stream in self.parked.drain(..) {
                    self.ring.close(stream);
                }
            }
            Event::Cut => self.end_where(Ended::Cut, |_| true),
        }
    }

    /// Sees to it that connections are accepted as far as the limits allow.
    fn update_accept(&mut self) {
        if self.accepting != Pending::Idle && !mem::take(&mut self.reconsider) {
            return;
        }
        let open = self.connections.len() + self.parked.len();
        let mut next = self.door.next(&self.worker, open);
        if next == Next::Accept && open >= self.files {
            self.door
                .failed(&Errno::MFILE.into(), &self.worker.shutdown);
            next = self.door.next(&self.worker, open);
        }
        let room = self.files.min(self.worker.max_connections);
        let room = room.saturating_sub(open);
        let multishot = self.multishot_room.is_some_and(|needed| room >= needed);
        match (self.accepting, next) {
            (Pending::Idle, Next::Accept) => {
                self.ring.accept(self.listener.as_fd(), multishot);
                self.accepting = Pending::Active;
                self.accepts_on = multishot;
            }
            (Pending::Idle, Next::Later(time)) if !self.sleeping => {
                self.ring.sleep(time);
                self.sleeping = true;
            }
            (Pending::Active, Next::Accept) if !self.accepts_on || multishot => {}
            // A single accept was submitted when there was room for it, and still is welcome.
            (Pending::Active, Next::Later(_) | Next::Full) if !self.accepts_on => {}
            (Pending::Active, _) => {
                self.ring.cancel_accept();
                self.accepting = Pending::Cancelled;
            }
            (Pending::Idle | Pending::Cancelled, _) => {}
        }
    }

    fn accepted(&mut self, result: Result<Stream, Errno>, more: bool) {
        self.reconsider = true;
        if !more {
            self.accepting = Pending::Idle;
        }
        match result {
            Ok(stream) => {
                self.door.succeeded();
                self.parked.push_back(stream);
                self.admit_parked();
            }
            // Cancelled, or left to a thread: submitted again when due.
            Err(Errno::CANCELED | Errno::AGAIN) => {}
            Err(error) => self.door.failed(&error.into(), &self.worker.shutdown),
        }
    }

    /// Serves who was accepted, within the limit.
    fn admit_parked(&mut self) {
        while self.connections.len() < self.worker.max_connections {
            let Some(stream) = self.parked.pop_front() else {
                break;
            };
            self.admit(stream);
        }
    }

    fn admit(&mut self, stream: Stream) {
        self.worker.counters().opened();
        if let Stream::Plain(socket) = &stream {
            self.worker.settle(socket);
        }
        self.accepted += 1;
        let entry = self.connections.vacant_entry();
        let key = Key::new(entry.key(), self.accepted);
        entry.insert(Connection {
            key,
            stream,
            framer: Framer::new(),
            quiet: Quiet::default(),
            receiving: Pending::Idle,
            sending: false,
            replies: vec![Reply::Static(GREETING)],
            stuck: false,
            watches_room: false,
            careful: false,
            watches_data: false,
            readable: false,
            active: false,
            unanswered: false,
            starved: false,
            receive: if self.ring.has(Feature::ProvidedBuffers) {
                Receive::Repeatedly
            } else {
                Receive::Into(buffer::SMALLEST)
            },
            repeats: false,
            provided: 0,
            finished: false,
            ended: self.worker.shutdown.cut.is_set().then_some(Ended::Cut),
            is_due: true,
        });
        self.due.push(key);
        self.sleep_until_check();
    }

    fn received(&mut self, key: Key, result: Result<Data, Errno>, more: bool) {
        let Self {
            ring,
            connections,
            worker,
            ..
        } = self;
        let Some(connection) = find(connections, key) else {
            return;
        };
        let traffic = &worker.counters().traffic;
        if !more {
            connection.receiving = Pending::Idle;
        }
        match result {
            Ok(Data::End) => connection.finished = true,
            Ok(Data::Own(buf)) => {
                connection.receive = connection.receive_after(buf.len(), ring);
                connection.reply_to(Reply::Own { buf, sent: 0 }, ring, traffic);
            }
            Ok(Data::Provided(mut received)) => {
                connection.provided += received.len();
                while let Some(reply) = ring.take(&mut received) {
                    connection.reply_to(reply, ring, traffic);
                }
            }
            // Submitted again when due.
            Err(Errno::CANCELED | Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                connection.careful = true;
                connection.readable = false;
            }
            Err(Errno::NOBUFS) if ring.has(Feature::ProvidedBuffers) => {
                self.ran_out = true;
                if mem::replace(&mut connection.starved, true) {
                    // Those that were posted since are gone, too. To go on like that could be to
                    // go on for ever: a buffer of its own brings something.
                    connection.receive = Receive::Into(buffer::SMALLEST);
                }
            }
            Err(error) => connection.fail(error),
        }
        self.change(key, |_| ());
    }

    fn sent(&mut self, key: Key, result: Result<usize, Errno>, mut replies: Vec<Reply>) {
        let Self {
            ring,
            connections,
            worker,
            ..
        } = self;
        let Some(connection) = find(connections, key) else {
            return;
        };
        connection.sending = false;
        let mut sent = match result {
            Ok(sent) => {
                if sent > 0 {
                    connection.quiet.moved();
                    worker.counters().traffic.sent.add(sent);
                }
                sent
            }
            Err(Errno::CANCELED | Errno::AGAIN | Errno::INTR) => 0,
            Err(error) => {
                connection.fail(error);
                0
            }
        };
        let mut done = 0;
        for reply in &replies {
            let Some(more) = sent.checked_sub(ring.bytes(reply).len()) else {
                break;
            };
            sent = more;
            done += 1;
        }
        for reply in replies.drain(..done) {
            ring.release(reply);
        }
        if let Some(reply) = replies.first_mut() {
            reply.advance(sent);
        }
        connection.stuck = !replies.is_empty();
        replies.append(&mut connection.replies);
        if replies.is_empty() && replies.capacity() > FEW_REPLIES {
            // A long message needs one for each of its buffers, and may be the last for long.
            replies = Vec::new();
        }
        connection.replies = replies;
        self.change(key, |_| ());
    }

    /// Starts whatever a connection's state calls for.
    fn advance(&mut self, key: Key) {
        let Self {
            ring, connections, ..
        } = self;
        let Some(connection) = find(connections, key) else {
            return;
        };
        connection.is_due = false;
        if connection.ended.is_none() {
            connection.send(ring);
            let all_sent = !connection.sending && connection.replies.is_empty();
            if connection.finished && all_sent && connection.receiving == Pending::Idle {
                connection.ended = Some(Ended::Closed);
            }
        }
        let Some(how) = connection.ended else {
            connection.receive(ring);
            return;
        };
        connection.cancel(ring);
        if connection.receiving == Pending::Idle && !connection.sending {
            let connection = connections.remove(key.index());
            for reply in connection.replies {
                ring.release(reply);
            }
            ring.close(connection.stream);
            self.worker.counters().closed(how);
            self.admit_parked();
        }
    }

    /// Changes a connection, if it still exists, and has it looked at.
    fn change(&mut self, key: Key, change: impl FnOnce(&mut Connection)) {
        if let Some(connection) = find(&mut self.connections, key) {
            change(connection);
            if !mem::replace(&mut connection.is_due, true) {
                self.due.push(key);
            }
        }
    }

    /// Ends the connections for which `condition` holds and that have not ended yet.
    fn end_where(&mut self, how: Ended, condition: impl Fn(&Connection) -> bool) {
        for (_, connection) in &mut self.connections {
            if connection.ended.is_none() && condition(connection) {
                connection.ended = Some(how);
                if !mem::replace(&mut connection.is_due, true) {
                    self.due.push(connection.key);
                }
            }
        }
    }

    fn sweep(&mut self) {
        self.end_where(Ended::TimedOut, |connection| connection.quiet.sweep());
        self.sleep_until_sweep();
    }

    /// Submits multishot receives anew that have been quiet since the last look at them.
    ///
    /// Such a receive tries again when the socket wakes it, and only then. The kernel fails an
    /// attempt at urgent data while a signal is pending (`tcp_recvmsg_locked`, and what it calls a
    /// signal includes task work that is not deferred). If that was the last wake-up, the client
    /// having gone, the receive never completes. A new one begins with an attempt.
    fn check(&mut self) {
        self.checking = false;
        let places = self.next_check..self.next_check + CHECKED_AT_ONCE;
        self.next_check = places.end;
        places.for_each(|place| {
            let connection = self.connections.get_mut(place);
            if connection.is_some_and(|connection| !mem::take(&mut connection.active)) {
                self.receive_anew(place);
            }
        });
        if self.next_check >= self.connections.capacity() {
            self.next_check = 0;
        }
        self.sleep_until_check();
    }

    fn receive_anew(&mut self, place: usize) {
        if let Some(connection) = self.connections.get_mut(place)
            && connection.repeats
            && connection.receiving == Pending::Active
        {
            self.ring.cancel_recv(connection.key);
            connection.receiving = Pending::Cancelled;
        }
    }

    fn sleep_until_check(&mut self) {
        if self.checking || self.connections.is_empty() || !self.ring.has(Feature::MultishotRecv) {
            return;
        }
        let period = if self.ring.has(Feature::DeferTaskrun) {
            CHECK
        } else {
            CHECK_OFTEN
        };
        let rounds = self.connections.capacity().div_ceil(CHECKED_AT_ONCE);
        self.ring.sleep_until_check(period / rounds.max(1) as u32);
        self.checking = true;
    }

    fn sleep_until_sweep(&mut self) {
        if let Some(timeout) = self.worker.idle_timeout {
            self.ring.sleep_until_sweep(idle::period(timeout));
        }
    }
}

/// The connection with this key: not another one that has its place by now.
fn find(connections: &mut Slab<Connection>, key: Key) -> Option<&mut Connection> {
    connections
        .get_mut(key.index())
        .filter(|connection| connection.key == key)
}

impl Connection {
    /// Turns what was received into the reply, in place, and queues it.
    fn reply_to(&mut self, mut received: Reply, ring: &mut Ring<'_>, traffic: &Traffic) {
        self.quiet.moved();
        self.active = true;
        self.starved = false;
        let bytes = ring.bytes_mut(&mut received);
        traffic.received.add(bytes.len());
        let replied = self.framer.feed(bytes);
        received.truncate(replied);
        if replied == 0 || self.ended.is_some() {
            ring.release(received);
            self.unanswered |= self.repeats;
        } else {
            self.replies.push(received);
        }
    }

    fn fail(&mut self, error: Errno) {
        if self.ended.is_none() {
            tracing::debug!(error = %io::Error::from(error), "connection failed");
            self.ended = Some(Ended::Failed);
        }
    }

    /// Sends what there is to send, one send at a time.
    fn send(&mut self, ring: &mut Ring<'_>) {
        if self.stuck {
            // Shared buffers are for those whose replies leave at once.
            for reply in &mut self.replies {
                ring.make_own(reply);
            }
            if !mem::replace(&mut self.watches_room, true) {
                ring.watch_for(What::Room, self.key, &self.stream);
            }
            return;
        }
        if self.sending {
            return;
        }
        if mem::take(&mut self.unanswered) && self.replies.is_empty() {
            // A reset that came with the data, after the receive's attempt and before it waited,
            // has woken that receive once for both, and it says nothing more (seen on 6.1 to
            // 6.18): with nothing to follow the data, the kernel does not try again. An empty send
            // is no packet, and fails if the connection is no more.
            self.replies.push(Reply::Static(b""));
        }
        if self.replies.is_empty() {
            return;
        }
        let later = self
            .replies
            .split_off(self.replies.len().min(ring::MOST_PARTS));
        let replies = mem::replace(&mut self.replies, later);
        ring.send(self.key, &self.stream, replies);
        self.sending = true;
    }

    /// Receives unless the client has replies to read first.
    fn receive(&mut self, ring: &mut Ring<'_>) {
        self.receive = match mem::take(&mut self.provided) {
            0 => self.receive,
            STREAM.. if self.repeats => Receive::Once,
            PROVIDED.. if !self.repeats => Receive::Into(buffer::LARGEST),
            _ => Receive::Repeatedly,
        };
        if self.careful && matches!(self.receive, Receive::Repeatedly | Receive::Once) {
            // It has its own, while something is there: kernels differ in what becomes of a
            // provided buffer when a receive fails.
            self.receive = Receive::Into(buffer::SMALLEST);
        }
        let welcome = !self.stuck;
        match self.receiving {
            Pending::Idle if welcome && !self.finished && self.careful => {
                self.repeats = false;
                if self.readable {
                    ring.recv_promptly(self.key, &self.stream, self.receive);
                    self.receiving = Pending::Active;
                } else if !mem::replace(&mut self.watches_data, true) {
                    ring.watch_for(What::Data, self.key, &self.stream);
                }
            }
            Pending::Idle if welcome && !self.finished => {
                ring.recv(self.key, &self.stream, self.receive);
                self.repeats = ring.repeats(self.receive);
                self.receiving = Pending::Active;
            }
            Pending::Active if self.repeats && !(welcome && ring.repeats(self.receive)) => {
                ring.cancel_recv(self.key);
                self.receiving = Pending::Cancelled;
            }
            _ => {}
        }
    }

    /// How to receive after so many bytes in a buffer of the connection's own.
    fn receive_after(&self, received: usize, ring: &Ring<'_>) -> Receive {
        let Receive::Into(size) = self.receive else {
            return self.receive;
        };
        if received < size && ring.has(Feature::ProvidedBuffers) {
            // The socket is empty: nobody waits with a large buffer.
            Receive::Once
        } else {
            Receive::Into(buffer::next_size(size, received))
        }
    }

    /// Cancels what would keep the connection from being closed.
    fn cancel(&mut self, ring: &mut Ring<'_>) {
        if self.receiving == Pending::Active {
            ring.cancel_recv(self.key);
            self.receiving = Pending::Cancelled;
        }
        for (watches, what) in [
            (&mut self.watches_data, What::Data),
            (&mut self.watches_room, What::Room),
        ] {
            if mem::take(watches) {
                ring.unwatch(what, self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(key: Key) -> Connection {
        Connection {
            key,
            stream: Stream::Direct(0),
            framer: Framer::new(),
            quiet: Quiet::default(),
            receiving: Pending::Idle,
            sending: false,
            replies: Vec::new(),
            stuck: false,
            watches_room: false,
            careful: false,
            watches_data: false,
            readable: false,
            active: false,
            unanswered: false,
            starved: false,
            receive: Receive::Repeatedly,
            repeats: false,
            provided: 0,
            finished: false,
            ended: None,
            is_due: false,
        }
    }

    #[test]
    fn a_late_completion_finds_no_new_connection_in_an_old_place() {
        let mut connections = Slab::new();
        let old = Key::new(connections.vacant_key(), 1);
        connections.insert(connection(old));
        assert!(find(&mut connections, old).is_some());

        connections.remove(old.index());
        assert!(find(&mut connections, old).is_none());

        let new = Key::new(connections.vacant_key(), 2);
        connections.insert(connection(new));
        assert_eq!(old.index(), new.index());
        assert!(find(&mut connections, old).is_none());
        assert!(find(&mut connections, new).is_some());
    }
}
