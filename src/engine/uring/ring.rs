//! The ring itself, behind an interface through which safe code cannot harm memory.
//!
//! The kernel reads and writes memory long after a submission, so that memory must neither move
//! nor be freed nor be touched meanwhile. Here it is moved into the [`Ring`] with the submission
//! and comes out again with the completion: whoever calls cannot hold on to it. All `unsafe` code
//! of the engine is in this file and in `buffers.rs`.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{Ordering, fence};
use std::thread;
use std::time::Duration;

use io_uring::squeue::Flags;
use io_uring::types::{DestinationSlot, Fd, Fixed, Napi, SubmitArgs, Timespec};
use io_uring::{
    CompletionQueue, EnterFlags, IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue,
};
use rustix::io::Errno;

use super::super::MOST_KERNEL_THREADS;
use super::buffers::{Chunk, GROUP, Pool, Received};
use super::user_data::{Key, Op};
use crate::features::{Feature, Features};

/// Flags of a receive or send, in its `ioprio`, see `io_uring_prep_recv(3)`.
const RECVSEND_POLL_FIRST: u16 = 1 << 0;
const RECV_MULTISHOT: u16 = 1 << 1;
const RECVSEND_BUNDLE: u16 = 1 << 4;

/// How many replies one send takes: the kernel's UIO_MAXIOV, see `sendmsg(2)`.
pub(super) const MOST_PARTS: usize = 1024;

/// With `min-wait`: for how many completions to wait, and how long at most before one is enough.
const MIN_WAIT_COMPLETIONS: u32 = 32;
const MIN_WAIT_MICROSECONDS: u32 = 20;

/// With `napi`: for how long to poll the network device, in microseconds.
const NAPI_MICROSECONDS: u32 = 50;

/// With `sqpoll`: milliseconds without a submission after which the kernel's thread sleeps.
const SQPOLL_IDLE: u32 = 100;

/// How many times more completions than submissions there is room for: a multishot submission has
/// many, and what does not fit takes a slow way through the kernel's memory.
const COMPLETIONS_PER_SUBMISSION: u32 = 4;

/// Makes the ring that a [`Ring`] is then made over, with `entries` submissions.
///
/// # Errors
///
/// EINVAL if the kernel lacks one of `features`; otherwise see `io_uring_setup(2)`.
pub(super) fn set_up(entries: u32, features: Features) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .dontfork()
        .setup_cqsize(entries * COMPLETIONS_PER_SUBMISSION);
    if features.has(Feature::DeferTaskrun) {
        builder.setup_single_issuer().setup_defer_taskrun();
    }
    if features.has(Feature::CoopTaskrun) {
        builder.setup_coop_taskrun();
    }
    if features.has(Feature::NoSqarray) {
        builder.setup_no_sqarray();
    }
    if features.has(Feature::Sqpoll) {
        builder.setup_sqpoll(SQPOLL_IDLE);
    }
    builder.build(entries)
}

/// An accepted connection's socket.
#[derive(Debug)]
pub(super) enum Stream {
    /// A descriptor of the process.
    Plain(OwnedFd),
    /// A place in the ring's file table.
    Direct(u32),
}

/// An operation on a stream, which has one of two types that the crate keeps apart.
macro_rules! on {
    ($stream:expr, |$target:ident| $operation:expr) => {
        match $stream {
            Stream::Plain(socket) => {
                let $target = Fd(socket.as_raw_fd());
                $operation
            }
            Stream::Direct(place) => {
                let $target = Fixed(*place);
                $operation
            }
        }
    };
}

/// A reply, or a part of one, on its way to the socket.
#[derive(Debug)]
pub(super) enum Reply {
    /// In the provided buffer in which it arrived.
    Chunk(Chunk),
    /// In a buffer of the connection's own, behind `sent` bytes that have left.
    Own {
        buf: Vec<u8>,
        sent: usize,
    },
    Static(&'static [u8]),
}

impl Reply {
    /// Forgets all but the first `len` bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        match self {
            Self::Chunk(chunk) => chunk.truncate(len),
            Self::Own { buf, sent } => buf.truncate(*sent + len),
            Self::Static(bytes) => *bytes = &bytes[..len.min(bytes.len())],
        }
    }

    /// Forgets the first `len` bytes.
    pub(super) fn advance(&mut self, len: usize) {
        match self {
            Self::Chunk(chunk) => chunk.advance(len),
            Self::Own { buf, sent } => *sent = buf.len().min(*sent + len),
            Self::Static(bytes) => *bytes = &bytes[len.min(bytes.len())..],
        }
    }
}

/// Where to receive into, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receive {
    /// Into provided buffers, again and again if the kernel can.
    Repeatedly,
    /// Into one provided buffer.
    Once,
    /// Into a buffer of so many bytes, of the connection's own.
    Into(usize),
}

/// What a receive has brought.
#[derive(Debug)]
pub(super) enum Data {
    /// In provided buffers.
    Provided(Received),
    /// In the buffer that was submitted, from its start on.
    Own(Vec<u8>),
    /// The client has closed its sending side.
    End,
}

/// What has happened.
#[derive(Debug)]
pub(super) enum Event {
    /// A connection, or why there is none. Without `more` nothing accepts any longer.
    Accepted {
        result: Result<Stream, Errno>,
        more: bool,
    },
    /// Without `more` the connection receives no longer.
    Received {
        key: Key,
        result: Result<Data, Errno>,
        more: bool,
    },
    /// So many bytes of the replies are in the socket's send buffer: all, unless it is full.
    Sent {
        key: Key,
        result: Result<usize, Errno>,
        replies: Vec<Reply>,
    },
    /// There may be data to receive, or room to send. Without `more` nobody watches any longer.
    Ready { key: Key, what: What, more: bool },
    /// The attempt to cancel a receive has an answer: whether it was found.
    CancelledRecv { key: Key, found: bool },
    /// As above, for the accept.
    CancelledAccept { found: bool },
    /// The time is over.
    Slept,
    /// It is time to look for idle connections.
    Sweep,
    /// It is time to look for receives that have missed something.
    Check,
    /// Accept no more.
    Drain,
    /// Close what is still open.
    Cut,
}

/// What a connection waits for without an operation that would do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Something to receive, or the end.
    Data,
    /// Room in the socket's send buffer.
    Room,
}

impl What {
    fn op(self) -> Op {
        match self {
            Self::Data => Op::AwaitData,
            Self::Room => Op::AwaitRoom,
        }
    }
}

/// The memory of one connection's operations in flight.
#[derive(Default)]
struct Lent {
    recv: Option<Receiving>,
    send: Option<(Vec<Reply>, Option<Box<Message>>)>,
}

enum Receiving {
    /// The pool's.
    Provided,
    Own(Vec<u8>),
}

/// What `sendmsg` reads: where several replies are.
struct Message {
    header: libc::msghdr,
    _parts: Vec<libc::iovec>,
}

impl Message {
    /// Boxed, because the kernel is given its address.
    fn new(mut parts: Vec<libc::iovec>) -> Box<Self> {
        let header = libc::msghdr {
            msg_name: ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: parts.as_mut_ptr(),
            msg_iovlen: parts.len() as _,
            msg_control: ptr::null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        };
        Box::new(Self {
            header,
            _parts: parts,
        })
    }
}

/// How long the timeouts take.
#[derive(Default)]
struct Times {
    sleep: Timespec,
    sweep: Timespec,
    check: Timespec,
}

/// A ring in use. It borrows the [`IoUring`] that it was made over, which outlives it.
pub(super) struct Ring<'r> {
    submitter: Submitter<'r>,
    sq: SubmissionQueue<'r>,
    cq: CompletionQueue<'r>,
    features: Features,
    /// Submissions for which the queue had no room.
    backlog: VecDeque<squeue::Entry>,
    /// What the kernel may access, by the index of its connection.
    lent: Vec<Lent>,
    /// Operations in flight for which that is so, or which use the pool.
    in_flight: usize,
    pool: Option<Pool>,
    /// Whether the kernel can report readiness again and again (Linux 5.13).
    watches: bool,
    /// Sockets that are being closed.
    closing: usize,
    /// How often the kernel refused submissions, and how often it had more completions than the
    /// queue could hold.
    refused: u64,
    overflowed: u64,
    /// Read by the kernel when it takes the submission.
    times: Box<Times>,
}

impl<'r> Ring<'r> {
    /// Registers everything that `features` ask for, with a file table of `files` places.
    ///
    /// # Errors
    ///
    /// When the kernel lacks one of the features, or memory for them.
    pub(super) fn new(ring: &'r mut IoUring, features: Features, files: u32) -> io::Result<Self> {
        let (mut submitter, sq, cq) = ring.split();
        if features.has(Feature::RegisteredRing) {
            submitter.register_ring_fd()?;
        }
        if features.has(Feature::DirectDescriptors) {
            submitter.register_files_sparse(files)?;
        }
        if features.has(Feature::Napi) {
            let mut napi = Napi::new().set_busy_poll_timeout(NAPI_MICROSECONDS);
            submitter.register_napi(&mut napi)?;
        }
        // A precaution that kernels before 5.15 do without: hardly anything is left to a thread.
        let _ = submitter.register_iowq_max_workers(&mut [0, MOST_KERNEL_THREADS]);
        let pool = if features.has(Feature::ProvidedBuffers) {
            let incremental = features.has(Feature::IncrementalBuffers);
            Some(Pool::register(&submitter, incremental)?)
        } else {
            None
        };
        Ok(Self {
            submitter,
            sq,
            cq,
            features,
            backlog: VecDeque::new(),
            lent: Vec::new(),
            in_flight: 0,
            pool,
            watches: true,
            closing: 0,
            refused: 0,
            overflowed: 0,
            times: Box::default(),
        })
    }

    pub(super) fn has(&self, feature: Feature) -> bool {
        self.features.has(feature)
    }

    /// Logs how often the rings were too small for what was going on.
    pub(super) fn log(&self, worker: usize) {
        let Self {
            refused,
            overflowed,
            ..
        } = self;
        tracing::debug!(worker, refused, overflowed, "ring done");
    }

    /// The next chunk of what was received into provided buffers.
    pub(super) fn take(&mut self, received: &mut Received) -> Option<Reply> {
        self.pool.as_mut()?.take(received).map(Reply::Chunk)
    }

    /// The bytes of a reply.
    pub(super) fn bytes<'b>(&'b self, reply: &'b Reply) -> &'b [u8] {
        match reply {
            Reply::Chunk(chunk) => self.pool.as_ref().map_or(&[], |pool| pool.bytes(chunk)),
            Reply::Own { buf, sent } => &buf[*sent..],
            Reply::Static(bytes) => bytes,
        }
    }

    /// The bytes of what was received, to be turned into a reply.
    pub(super) fn bytes_mut<'b>(&'b mut self, reply: &'b mut Reply) -> &'b mut [u8] {
        match reply {
            Reply::Chunk(chunk) => match &mut self.pool {
                Some(pool) => pool.bytes_mut(chunk),
                None => &mut [],
            },
            Reply::Own { buf, sent } => &mut buf[*sent..],
            Reply::Static(_) => &mut [],
        }
    }

    /// Gives the memory of a reply back.
    pub(super) fn release(&mut self, reply: Reply) {
        if let (Reply::Chunk(chunk), Some(pool)) = (reply, &mut self.pool) {
            pool.give_back(chunk);
        }
    }

    /// Moves a reply out of the provided buffers.
    pub(super) fn make_own(&mut self, reply: &mut Reply) {
        if let Reply::Chunk(_) = reply {
            let buf = self.bytes(reply).to_vec();
            let chunk = mem::replace(reply, Reply::Own { buf, sent: 0 });
            self.release(chunk);
        }
    }

    /// Provides buffers enough for so many connections to receive at once.
    pub(super) fn provide_for(&mut self, connections: usize) {
        if let Some(pool) = &mut self.pool {
            pool.provide_for(connections);
        }
    }

    /// Accepts one connection, or with `multishot` one after the other.
    pub(super) fn accept(&mut self, listener: BorrowedFd<'_>, multishot: bool) {
        let listener = Fd(listener.as_raw_fd());
        let direct = self.has(Feature::DirectDescriptors);
        // A socket in the file table is inherited by nobody, and the kernel refuses the flag.
        let flags = if direct { 0 } else { libc::SOCK_CLOEXEC };
        let entry = if multishot {
            opcode::AcceptMulti::new(listener)
                .allocate_file_index(direct)
                .flags(flags)
                .build()
        } else {
            opcode::Accept::new(listener, ptr::null_mut(), ptr::null_mut())
                .file_index(direct.then(DestinationSlot::auto_target))
                .flags(flags)
                .build()
        };
        self.push(entry, Op::Accept, Key::NONE);
    }

    /// Receives, as `how` says.
    pub(super) fn recv(&mut self, key: Key, stream: &Stream, how: Receive) {
        // A multishot receive that polls first can miss the end of a Unix stream (seen on 6.18).
        let polls_first = self.has(Feature::PollFirst) && !self.repeats(how);
        let ioprio = if polls_first { RECVSEND_POLL_FIRST } else { 0 };
        self.submit_recv(0, ioprio, key, stream, how);
    }

    /// Receives once and only what is there, or completes with EAGAIN.
    pub(super) fn recv_promptly(&mut self, key: Key, stream: &Stream, how: Receive) {
        assert!(!self.repeats(how), "what is there is received once");
        self.submit_recv(libc::MSG_DONTWAIT, 0, key, stream, how);
    }

    fn submit_recv(
        &mut self,
        flags: libc::c_int,
        mut ioprio: u16,
        key: Key,
        stream: &Stream,
        how: Receive,
    ) {
        let entry = match how {
            Receive::Repeatedly | Receive::Once => {
                if self.repeats(how) {
                    ioprio |= RECV_MULTISHOT;
                }
                if self.has(Feature::Bundles) && how == Receive::Repeatedly {
                    ioprio |= RECVSEND_BUNDLE;
                }
                assert!(self.pool.is_some(), "provided buffers are in use");
                self.lend_for_recv(key, Receiving::Provided);
                on!(stream, |fd| opcode::Recv::new(fd, ptr::null_mut(), 0))
                    .ioprio(ioprio)
                    .flags(flags)
                    .buf_group(GROUP)
                    .build()
                    .flags(Flags::BUFFER_SELECT)
            }
            Receive::Into(size) => {
                let mut buf = Vec::with_capacity(size);
                let (start, capacity) = (buf.as_mut_ptr(), buf.capacity() as u32);
                self.lend_for_recv(key, Receiving::Own(buf));
                on!(stream, |fd| opcode::Recv::new(fd, start, capacity))
                    .ioprio(ioprio)
                    .flags(flags)
                    .build()
            }
        };
        self.push(entry, Op::Recv, key);
    }

    /// Submits a receive that a kernel which looks at its flags refuses.
    pub(super) fn recv_with_unknown_flag(&mut self, key: Key, stream: &Stream) {
        let mut buf = Vec::with_capacity(1);
        let start = buf.as_mut_ptr();
        let entry = on!(stream, |fd| opcode::Recv::new(fd, start, 1))
            .ioprio(1 << 15)
            .flags(libc::MSG_DONTWAIT)
            .build();
        self.lend_for_recv(key, Receiving::Own(buf));
        self.push(entry, Op::Recv, key);
    }

    /// Whether such a receive goes on until it is cancelled.
    pub(super) fn repeats(&self, how: Receive) -> bool {
        how == Receive::Repeatedly && self.has(Feature::MultishotRecv)
    }

    /// Sends what the socket has room for, of all `replies` (at most [`MOST_PARTS`]) in one go,
    /// and never waits.
    ///
    /// It completes with the submission.
    pub(super) fn send(&mut self, key: Key, stream: &Stream, replies: Vec<Reply>) {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let (entry, message) = if let [reply] = replies.as_slice() {
            let part = self.part(reply);
            let (start, len) = (part.iov_base.cast(), part.iov_len as u32);
            let send = on!(stream, |fd| opcode::Send::new(fd, start, len));
            (send.flags(flags).build(), None)
        } else {
            let parts = replies.iter().map(|reply| self.part(reply)).collect();
            let message = Message::new(parts);
            let header = &raw const message.header;
            let send = on!(stream, |fd| opcode::SendMsg::new(fd, header));
            (send.flags(flags as u32).build(), Some(message))
        };
        let lent = self.lent(key);
        assert!(lent.send.is_none(), "one send at a time");
        lent.send = Some((replies, message));
        self.in_flight += 1;
        self.push(entry, Op::Send, key);
    }

    /// Lets [`Event::Ready`] happen whenever there may be more of `what`, now for a first time.
    ///
    /// It goes on until the client is gone or [`Ring::unwatch`] ends it. A send that waits would
    /// be woken for as long as the client's half is closed, and be left to a thread.
    pub(super) fn watch_for(&mut self, what: What, key: Key, stream: &Stream) {
        let flags = match what {
            What::Data => libc::POLLIN,
            What::Room => libc::POLLOUT,
        };
        let entry = on!(stream, |fd| opcode::PollAdd::new(fd, flags as u32))
            .multi(self.watches)
            .build();
        self.push(entry, what.op(), key);
    }

    /// Ends that. What it had to report may still come.
    pub(super) fn unwatch(&mut self, what: What, key: Key) {
        self.cancel(what.op(), Op::CancelAwait, key);
    }

    /// Makes a pending accept complete, unless it does so anyway.
    pub(super) fn cancel_accept(&mut self) {
        self.cancel(Op::Accept, Op::CancelAccept, Key::NONE);
    }

    /// Makes a pending receive complete, unless it does so anyway.
    pub(super) fn cancel_recv(&mut self, key: Key) {
        self.cancel(Op::Recv, Op::CancelRecv, key);
    }

    fn cancel(&mut self, target: Op, op: Op, key: Key) {
        let entry = opcode::AsyncCancel::new(target.user_data(key)).build();
        self.push(entry, op, key);
    }

    /// Closes the socket of a connection that has nothing in flight, with the next submission.
    pub(super) fn close(&mut self, stream: Stream) {
        let entry = match stream {
            // The descriptor is the ring's from here on.
            Stream::Plain(socket) => opcode::Close::new(Fd(socket.into_raw_fd())),
            Stream::Direct(place) => opcode::Close::new(Fixed(place)),
        };
        self.closing += 1;
        self.push(entry.build(), Op::Close, Key::NONE);
    }

    /// Whether a socket is still to be closed.
    pub(super) fn is_closing(&self) -> bool {
        self.closing > 0
    }

    /// Lets [`Event::Slept`] happen after `time`, once.
    pub(super) fn sleep(&mut self, time: Duration) {
        self.times.sleep = Timespec::from(time);
        let entry = opcode::Timeout::new(&raw const self.times.sleep).build();
        self.push(entry, Op::Sleep, Key::NONE);
    }

    /// Lets [`Event::Sweep`] happen after `time`, once.
    pub(super) fn sleep_until_sweep(&mut self, time: Duration) {
        self.times.sweep = Timespec::from(time);
        let entry = opcode::Timeout::new(&raw const self.times.sweep).build();
        self.push(entry, Op::Sweep, Key::NONE);
    }

    /// Lets [`Event::Check`] happen after `time`, once.
    pub(super) fn sleep_until_check(&mut self, time: Duration) {
        self.times.check = Timespec::from(time);
        let entry = opcode::Timeout::new(&raw const self.times.check).build();
        self.push(entry, Op::Check, Key::NONE);
    }

    /// Lets [`Event::Drain`] and [`Event::Cut`] happen when these are at their end of file.
    pub(super) fn watch(&mut self, drain: impl AsFd, cut: impl AsFd) {
        for (fd, op) in [(drain.as_fd(), Op::Drain), (cut.as_fd(), Op::Cut)] {
            // Hang-ups are always reported.
            let entry = opcode::PollAdd::new(Fd(fd.as_raw_fd()), 0).build();
            self.push(entry, op, Key::NONE);
        }
    }

    /// Submits everything, and waits until something has happened.
    ///
    /// Returns before that when completions have to be taken so that the kernel can go on, and
    /// after a signal.
    ///
    /// # Errors
    ///
    /// When the ring is broken; what passes by itself is no error.
    pub(super) fn submit_and_wait(&mut self) -> io::Result<()> {
        if let Some(pool) = &mut self.pool {
            pool.post();
        }
        loop {
            self.fill_queue();
            let is_last = self.backlog.is_empty();
            let entered = self.enter(if is_last { 1 } else { 0 });
            self.sq.sync();
            self.cq.sync();
            match entered {
                Ok(()) if is_last || !self.cq.is_empty() => return Ok(()),
                Ok(()) => {}
                Err(Errno::INTR | Errno::TIME) => return Ok(()),
                // Completions have to be taken before the kernel accepts more (EBUSY), or it has
                // no memory for submissions just now (EAGAIN).
                Err(Errno::BUSY | Errno::AGAIN) => {
                    self.refused += 1;
                    if self.cq.is_empty() {
                        thread::sleep(Duration::from_millis(1));
                    }
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn fill_queue(&mut self) {
        while let Some(entry) = self.backlog.front() {
            // SAFETY: as in `push`.
            if unsafe { self.sq.push(entry) }.is_err() {
                break;
            }
            self.backlog.pop_front();
        }
        self.sq.sync();
        self.cq.sync();
    }

    fn enter(&mut self, want: u32) -> Result<(), Errno> {
        let mut flags = EnterFlags::empty();
        let overflow = self.sq.cq_overflow();
        self.overflowed += u64::from(overflow);
        // Deferred work runs for those who ask for its completions only. Submissions that never all
        // fit the queue must not keep it waiting: some may wait for what it completes.
        if want > 0 || overflow || self.has(Feature::DeferTaskrun) {
            flags |= EnterFlags::GETEVENTS;
        }
        if self.has(Feature::NoIowait) {
            flags |= EnterFlags::NO_IOWAIT;
        }
        let submissions = self.sq.len() as u32;
        if self.has(Feature::Sqpoll) {
            if want == 0 {
                flags |= EnterFlags::SQ_WAIT;
            }
            // The kernel's thread announces that it will sleep, then looks at the queue once more:
            // what was queued before this fence it sees, or its announcement is seen here.
            fence(Ordering::SeqCst);
            if self.sq.need_wakeup() {
                flags |= EnterFlags::SQ_WAKEUP;
            }
        }
        let entered = if self.has(Feature::MinWait) && want > 0 {
            // Without a timeout for the whole wait the shorter one would end it.
            let timeout = Timespec::new().sec(3600);
            let args = SubmitArgs::new()
                .min_wait_usec(MIN_WAIT_MICROSECONDS)
                .timespec(&timeout);
            let want = MIN_WAIT_COMPLETIONS.min(self.cq.capacity() as u32);
            let flags = flags | EnterFlags::EXT_ARG;
            // SAFETY: with EXT_ARG the argument is what SubmitArgs is, see io_uring_enter2(2).
            unsafe {
                self.submitter
                    .enter(submissions, want, flags.bits(), Some(&args))
            }
        } else {
            // SAFETY: no argument.
            unsafe {
                self.submitter
                    .enter::<libc::sigset_t>(submissions, want, flags.bits(), None)
            }
        };
        match entered {
            Ok(_) => Ok(()),
            Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        }
    }

    /// The next of what has happened before [`Ring::submit_and_wait`] returned.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        loop {
            let completion = self.cq.next()?;
            if let Some(event) = self.event(&completion) {
                return Some(event);
            }
        }
    }

    fn event(&mut self, completion: &cqueue::Entry) -> Option<Event> {
        let user_data = completion.user_data();
        let (op, key) = Op::from_user_data(user_data);
        let more = cqueue::more(completion.flags());
        let result = match completion.result() {
            result @ 0.. => Ok(result as u32),
            error => Err(Errno::from_raw_os_error(-error)),
        };
        let found = result.is_ok();
        Some(match op {
            Op::Accept => Event::Accepted {
                result: result.map(|result| self.accepted(result)),
                more,
            },
            Op::Recv => {
                let lent = self.lent(key).recv.take().expect("a receive is in flight");
                let result = match lent {
                    Receiving::Own(buf) => received_into(buf, result),
                    Receiving::Provided => self.received(result, completion.flags()),
                };
                if more {
                    self.lent(key).recv = Some(Receiving::Provided);
                } else {
                    self.in_flight -= 1;
                }
                Event::Received { key, result, more }
            }
            Op::Send => {
                self.in_flight -= 1;
                let lent = self.lent(key).send.take();
                let (replies, _) = lent.expect("a send is in flight");
                Event::Sent {
                    key,
                    result: result.map(|sent| sent as usize),
                    replies,
                }
            }
            Op::AwaitData | Op::AwaitRoom => {
                // How a kernel answers that can report readiness only once.
                self.watches &= result != Err(Errno::INVAL);
                let what = if op == Op::AwaitRoom {
                    What::Room
                } else {
                    What::Data
                };
                Event::Ready { key, what, more }
            }
            Op::CancelAwait => return None,
            Op::CancelAccept => Event::CancelledAccept { found },
            Op::CancelRecv => Event::CancelledRecv { key, found },
            Op::Sleep => Event::Slept,
            Op::Sweep => Event::Sweep,
            Op::Check => Event::Check,
            Op::Drain => Event::Drain,
            Op::Cut => Event::Cut,
            Op::Close => {
                self.closing -= 1;
                return None;
            }
        })
    }

    fn accepted(&self, result: u32) -> Stream {
        if self.has(Feature::DirectDescriptors) {
            Stream::Direct(result)
        } else {
            // SAFETY: the kernel has just made this descriptor, for this completion only.
            Stream::Plain(unsafe { OwnedFd::from_raw_fd(result as RawFd) })
        }
    }

    fn received(&mut self, result: Result<u32, Errno>, flags: u32) -> Result<Data, Errno> {
        let buffer = cqueue::buffer_select(flags);
        let unfinished = cqueue::buffer_more(flags);
        match (result, buffer) {
            (Ok(len @ 1..), Some(buffer)) => {
                Ok(Data::Provided(Received::new(buffer, len, unfinished)))
            }
            (result, buffer) => {
                if let (Some(buffer), false, Some(pool)) = (buffer, unfinished, &mut self.pool) {
                    pool.take_unused(buffer);
                }
                result.map(|_| Data::End)
            }
        }
    }

    fn part(&self, reply: &Reply) -> libc::iovec {
        let bytes = self.bytes(reply);
        libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        }
    }

    fn lend_for_recv(&mut self, key: Key, receiving: Receiving) {
        let lent = self.lent(key);
        assert!(lent.recv.is_none(), "one receive at a time");
        lent.recv = Some(receiving);
        self.in_flight += 1;
    }

    fn lent(&mut self, key: Key) -> &mut Lent {
        if self.lent.len() <= key.index() {
            self.lent.resize_with(key.index() + 1, Lent::default);
        }
        &mut self.lent[key.index()]
    }

    /// Queues a submission; one that finds no room waits for the next call of the kernel.
    fn push(&mut self, entry: squeue::Entry, op: Op, key: Key) {
        let entry = entry.user_data(op.user_data(key));
        // SAFETY: the memory that an entry points to is this ring's own: moved into `lent` before,
        // or part of the pool with its chunk in `lent`, or `times`. It is released when the
        // completion has arrived, and leaked if the ring is dropped before that. Static memory
        // needs nothing, and other entries carry no pointers.
        if !self.backlog.is_empty() || unsafe { self.sq.push(&entry) }.is_err() {
            self.backlog.push_back(entry);
        }
    }
}

impl Drop for Ring<'_> {
    fn drop(&mut self) {
        if self.in_flight > 0 {
            // An engine that panicked. Closing the ring cancels what is in flight, at leisure.
            mem::forget(mem::take(&mut self.lent));
            mem::forget(self.pool.take());
        }
        if self.has(Feature::Sqpoll) {
            // The kernel's thread may be about to take a submission that refers to them.
            mem::forget(mem::take(&mut self.times));
        }
        if self.has(Feature::RegisteredRing) {
            // The registration holds on to the ring for as long as the thread lives.
            let _ = self.submitter.unregister_ring_fd();
        }
        if self.pool.is_some() {
            // The ring is about to be closed, which would do the same.
            let _ = self.submitter.unregister_buf_ring(GROUP);
        }
    }
}

fn received_into(mut buf: Vec<u8>, result: Result<u32, Errno>) -> Result<Data, Errno> {
    let len = result? as usize;
    assert!(len <= buf.capacity(), "no receive exceeds its buffer");
    // SAFETY: the kernel has filled so many bytes, and they are within the capacity.
    unsafe { buf.set_len(len) };
    Ok(if len == 0 { Data::End } else { Data::Own(buf) })
}
