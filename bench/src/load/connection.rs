//! One client connection: what it has begun, sent and received of the tape.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::libc;
use nix::setsockopt_impl;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SetStruct;
use ringlab::endpoint::Endpoint;
use ringlab::framing::GREETING;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, SockAddr, Socket, Type};

use super::failures::{Failure, Problem};
use crate::tape::Tape;

/// How much to gather for one send, in bytes.
const CHUNK: usize = 64 * 1024;

/// How much one connection sends before others have their turn, in bytes.
const TURN: usize = 256 * 1024;

/// Why there is no connection.
pub(super) enum NotConnected {
    /// The server's backlog is full: try again in a moment.
    Later,
    /// It failed.
    Failed(Problem),
}

pub(super) struct Connection {
    socket: Socket,
    is_tcp: bool,
    /// When connecting began.
    pub(super) opened: Instant,
    /// When something arrived last.
    pub(super) moved: Instant,
    pub(super) greeted: bool,
    /// Whether there is more to send, for which the socket had no room or others have their turn.
    pub(super) blocked: bool,
    /// Whether there may be more to receive than one turn takes.
    pub(super) unread: bool,
    /// When each of the requests that are begun and not answered was sent, or was due.
    pub(super) in_flight: VecDeque<Instant>,
    /// The request to begin next.
    next: usize,
    /// Bytes of requests that are begun and not sent: those before `next` on the tape.
    unsent: usize,
    /// The request whose reply is being received.
    awaited: usize,
    /// How far the replies are received.
    received: usize,
    /// Bytes of the requests that are begun and not answered.
    unanswered: usize,
}

/// What one look at a socket has brought.
pub(super) struct Received {
    /// Bytes, as far as they were right.
    pub(super) bytes: usize,
    /// Whether the connection can go on.
    pub(super) result: Result<(), Problem>,
}

impl Connection {
    /// Begins to connect; the greeting shows that it is done. Requests are taken from `first` on.
    /// `brief` is for a connection that sends one of them only.
    pub(super) fn open(
        target: &Endpoint,
        tape: &Tape,
        first: usize,
        brief: bool,
        now: Instant,
    ) -> Result<Self, NotConnected> {
        let socket = match target {
            Endpoint::Tcp(address) => connect_tcp(*address, brief),
            Endpoint::Unix(path) => SockAddr::unix(path).and_then(|address| {
                let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
                socket.connect(&address)?;
                Ok(socket)
            }),
        };
        let socket = socket.map_err(|error| match error.kind() {
            // Only Unix sockets report it: TCP goes on in the background.
            ErrorKind::WouldBlock => NotConnected::Later,
            _ => NotConnected::Failed(Problem::new(Failure::Connect, remedy(&error))),
        })?;
        Ok(Self {
            socket,
            is_tcp: matches!(target, Endpoint::Tcp(_)),
            opened: now,
            moved: now,
            greeted: false,
            blocked: false,
            unread: false,
            in_flight: VecDeque::new(),
            next: first,
            unsent: 0,
            awaited: first,
            received: tape.reply(first).start,
            unanswered: 0,
        })
    }

    /// Ends a conversation that has failed, with a reset.
    pub(super) fn abort(self) {
        if self.is_tcp {
            let _ = self.socket.set_linger(Some(Duration::ZERO));
        }
    }

    /// How many bytes of requests may be begun until so many are unanswered.
    ///
    /// None until it is worth a send: one that followed every reply would cut the stream into
    /// pieces of their sizes.
    pub(super) fn room_in(&self, window: usize) -> usize {
        let room = window.saturating_sub(self.unanswered);
        let is_worth_it = self.in_flight.is_empty() || room >= CHUNK.min(window / 2);
        if is_worth_it { room } else { 0 }
    }

    /// For how long nothing has come that is due; `None` if nothing is.
    pub(super) fn quiet(&self, now: Instant) -> Option<Duration> {
        let since = match self.in_flight.front() {
            Some(&since) => since.max(self.moved),
            None if self.greeted => return None,
            None => self.opened,
        };
        Some(now.saturating_duration_since(since))
    }

    /// Begins requests as long as `begin`, told their length, says from when they count, and sends
    /// them, until the socket has no room or much has been sent; then `blocked` is set. Returns the
    /// bytes sent.
    pub(super) fn send(
        &mut self,
        tape: &Tape,
        mut begin: impl FnMut(usize) -> Option<Instant>,
    ) -> Result<usize, Problem> {
        self.blocked = false;
        let mut total = 0;
        loop {
            // Neighbours on the tape leave in one send.
            let is_at_end = |connection: &Self| connection.next == 0 && connection.unsent > 0;
            while self.unsent < CHUNK && !is_at_end(self) {
                let length = tape.request(self.next).len();
                let Some(since) = begin(length) else {
                    break;
                };
                self.in_flight.push_back(since);
                self.unsent += length;
                self.unanswered += length;
                self.next = tape.after(self.next);
            }
            if self.unsent == 0 {
                return Ok(total);
            }
            if total >= TURN {
                self.blocked = true;
                return Ok(total);
            }
            let end = match self.next {
                0 => tape.requests().len(),
                next => tape.request(next).start,
            };
            let chunk = &tape.requests()[end - self.unsent..end];
            match rustix::net::send(&self.socket, chunk, SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    self.unsent -= sent;
                    total += sent;
                }
                Err(Errno::AGAIN) => {
                    self.blocked = true;
                    return Ok(total);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(broken(error)),
            }
        }
    }

    /// Receives once, and compares. `replied` is told of each complete reply, and from when its
    /// request counts.
    pub(super) fn receive(
        &mut self,
        tape: &Tape,
        buf: &mut [u8],
        replied: impl FnMut(Instant),
    ) -> Received {
        let mut bytes = 0;
        let result = match rustix::net::recv(&self.socket, &mut *buf, RecvFlags::empty()) {
            Ok((_, 0)) => Err(Problem::new(Failure::Closed, self.describe(tape))),
            Ok((_, received)) => {
                self.unread = received == buf.len();
                self.compare(tape, &buf[..received], &mut bytes, replied)
            }
            Err(Errno::AGAIN | Errno::INTR) => {
                self.unread = false;
                Ok(())
            }
            Err(error) if self.greeted => Err(broken(error)),
            Err(error) => {
                let text = remedy(&error.into());
                Err(Problem::new(Failure::Connect, text))
            }
        };
        Received { bytes, result }
    }

    /// Compares what has been received with what must be; `right` counts as much of it.
    fn compare(
        &mut self,
        tape: &Tape,
        mut bytes: &[u8],
        right: &mut usize,
        mut replied: impl FnMut(Instant),
    ) -> Result<(), Problem> {
        if !self.greeted {
            let Some(rest) = bytes.strip_prefix(GREETING) else {
                let text = format!("{:#04x} in place of the greeting", bytes[0]);
                return Err(Problem::new(Failure::WrongBytes, text));
            };
            self.greeted = true;
            *right += GREETING.len();
            bytes = rest;
        }
        while !bytes.is_empty() {
            if self.in_flight.is_empty() {
                let text = format!("{} bytes that nothing had asked for", bytes.len());
                return Err(Problem::new(Failure::WrongBytes, text));
            }
            let reply = tape.reply(self.awaited);
            let length = bytes.len().min(reply.end - self.received);
            let expected = &tape.replies()[self.received..][..length];
            let (part, rest) = bytes.split_at(length);
            if part != expected {
                return Err(mismatch(part, expected, self.received - reply.start));
            }
            bytes = rest;
            *right += length;
            self.received += length;
            if self.received == reply.end {
                self.unanswered -= tape.request(self.awaited).len();
                self.awaited = tape.after(self.awaited);
                self.received = tape.reply(self.awaited).start;
                if let Some(since) = self.in_flight.pop_front() {
                    replied(since);
                }
            }
        }
        Ok(())
    }

    /// What this connection is waiting for.
    pub(super) fn describe(&self, tape: &Tape) -> String {
        if !self.greeted {
            return "before the greeting".to_owned();
        }
        if self.in_flight.is_empty() {
            return "while nothing was asked for".to_owned();
        }
        let reply = tape.reply(self.awaited);
        format!(
            "after {} of {} bytes of a reply",
            self.received - reply.start,
            reply.len()
        )
    }
}

impl Drop for Connection {
    /// Closes with a FIN, which is the end of the conversation for the server, and leaves no
    /// TIME_WAIT.
    ///
    /// TIME_WAIT would hold the port for a minute, and there are only some 28,000
    /// (`net.ipv4.ip_local_port_range`). And its end is work, which the kernel charges to whatever
    /// runs at that time on the processor that the server's FIN was sent from: to a server that is
    /// measured a minute later.
    ///
    /// A socket that is closed with a negative TCP_LINGER2, see `tcp(7)`, is gone as soon as the
    /// server has acknowledged the FIN, and answers what comes then with a reset. To shut down and
    /// to reset behind it would take two system calls, between which the server's FIN may arrive;
    /// then it is TIME_WAIT, and stays it. Only where both sides close at the same moment, which
    /// is no conversation of the protocol, there still is one.
    fn drop(&mut self) {
        if self.is_tcp {
            let _ = setsockopt(&self.socket, Linger2, &-1);
        }
    }
}

/// TCP_LINGER2: how long a closed socket waits for the other side's FIN, in seconds.
#[derive(Clone, Copy)]
struct Linger2;

setsockopt_impl!(
    Linger2,
    libc::IPPROTO_TCP,
    libc::TCP_LINGER2,
    i32,
    SetStruct<'_, i32>
);

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn connect_tcp(address: SocketAddr, brief: bool) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), None)?;
    if !brief {
        socket.set_tcp_nodelay(true)?;
        // Every system has it, and others pace what they send, with a timer per packet: that would
        // be the client's cost, and part of the latency. The server's socket keeps the system's
        // default.
        socket.set_tcp_congestion(b"reno")?;
    }
    match socket.connect(&address.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => return Err(error),
        _ => {}
    }
    if socket
        .local_addr()?
        .as_socket()
        .is_some_and(|local| is_itself(local, address))
    {
        // Or the server that is to come could not bind.
        socket.set_linger(Some(Duration::ZERO))?;
        return Err(Errno::CONNREFUSED.into());
    }
    Ok(socket)
}

/// Whether a socket has connected to itself: its port was picked from a range
/// (`net.ipv4.ip_local_port_range`) in which the server's lies, and nobody listens there. TCP calls
/// it a simultaneous open, RFC 9293, section 3.5.
fn is_itself(local: SocketAddr, target: SocketAddr) -> bool {
    local.port() == target.port() && (local.ip() == target.ip() || target.ip().is_unspecified())
}

fn remedy(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::CONNREFUSED | Errno::NOENT) => {
            format!("{error}: is the server running there?")
        }
        Some(Errno::ADDRNOTAVAIL) => format!(
            "{error}: all local ports are in use; widen net.ipv4.ip_local_port_range, or open \
             fewer connections"
        ),
        Some(Errno::MFILE | Errno::NFILE) => {
            format!("{error}: raise the limit on descriptors, see `ulimit -n`")
        }
        _ => error.to_string(),
    }
}

fn broken(error: Errno) -> Problem {
    let failure = match error {
        Errno::CONNRESET | Errno::PIPE => Failure::Reset,
        Errno::TIMEDOUT => Failure::Timeout,
        _ => Failure::Closed,
    };
    Problem::new(failure, io::Error::from(error).to_string())
}

fn mismatch(received: &[u8], expected: &[u8], offset: usize) -> Problem {
    let wrong = received.iter().zip(expected).position(|(a, b)| a != b);
    let at = wrong.unwrap_or_default();
    let text = format!(
        "{:#04x} in place of {:#04x}, byte {} of a reply",
        received[at],
        expected[at],
        offset + at
    );
    Problem::new(Failure::WrongBytes, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_knows_itself() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (local, target, expected) in [
            ("127.0.0.1:40004", "127.0.0.1:40004", true),
            ("127.0.0.1:40005", "127.0.0.1:40004", false),
            ("127.0.0.1:40004", "127.0.0.2:40004", false),
            ("127.0.0.1:40004", "0.0.0.0:40004", true),
            ("[::1]:40004", "[::1]:40004", true),
        ] {
            assert_eq!(
                is_itself(address(local), address(target)),
                expected,
                "{local} {target}"
            );
        }
    }
}
