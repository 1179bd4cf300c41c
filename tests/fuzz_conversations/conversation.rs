//! A client that takes turns with others, and believes nothing of what it hears.

use std::io::{self, Read, Write};
use std::mem;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::time::Duration;

use ringlab::endpoint::Endpoint;
use ringlab::framing::{Framer, GREETING, Path};
use rustix::event::{PollFd, PollFlags};
use socket2::Socket;

use crate::script::{Script, Step};
use crate::support::Client;

/// What a client that has said all it had to say may find when the server closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Every reply, then the end of the stream.
    Everything,
    /// The same, or to be turned away without a greeting.
    EverythingOrNothing,
    /// The beginning of the replies, however long.
    Beginning,
}

pub(crate) struct Conversation {
    /// For messages.
    number: usize,
    script: Script,
    state: State,
    /// The protocol, fed with what was sent.
    reference: Framer,
    /// Bytes of the input that were sent.
    sent: usize,
    /// Everything that must come in return for it.
    expected: Vec<u8>,
    /// How much of that has come.
    received: usize,
    reading: bool,
    half_closed: bool,
    /// Turns in which it could neither read nor send.
    stuck: u32,
}

enum State {
    /// Connects after so many turns.
    Absent(u32),
    Connected(Socket),
    Over,
}

impl Conversation {
    pub(crate) fn new(number: usize, script: Script) -> Self {
        Self {
            number,
            state: State::Absent(script.start),
            script,
            reference: Framer::with_path(Path::Reference).expect("runs everywhere"),
            sent: 0,
            expected: GREETING.to_vec(),
            received: 0,
            reading: true,
            half_closed: false,
            stuck: 0,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Reads, and takes one step of the script. Returns whether anything has happened.
    pub(crate) fn turn(&mut self, endpoint: &Endpoint, due: Due) -> bool {
        match &mut self.state {
            State::Over => return false,
            State::Absent(0) => match connect(endpoint, self.script.small_buffers) {
                Ok(socket) => self.state = State::Connected(socket),
                Err(error) => self.closed(Err(error), due),
            },
            State::Absent(turns) => *turns -= 1,
            State::Connected(_) => {
                let read = self.read(due);
                // Reading may have been the end.
                let stepped = !self.is_over() && self.step(due);
                return read || stepped;
            }
        }
        true
    }

    /// What to wait for until the next turn.
    pub(crate) fn poll_fd(&self) -> Option<PollFd<'_>> {
        let State::Connected(socket) = &self.state else {
            return None;
        };
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, self.reading);
        let sends = matches!(self.script.steps.last(), Some(Step::Send(_)));
        flags.set(PollFlags::OUT, sends);
        Some(PollFd::new(socket, flags))
    }

    fn read(&mut self, due: Due) -> bool {
        let State::Connected(socket) = &mut self.state else {
            return false;
        };
        if !self.reading {
            return false;
        }
        let mut piece = vec![0; self.script.appetite];
        match socket.read(&mut piece) {
            Ok(0) => self.closed(Ok(()), due),
            Ok(length) => self.heard(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) => self.closed(Err(error), due),
        }
        true
    }

    fn heard(&mut self, piece: &[u8]) {
        let expected = &self.expected[self.received..];
        if expected.starts_with(piece) {
            self.received += piece.len();
            return;
        }
        let wrong = piece
            .iter()
            .zip(expected)
            .take_while(|(a, b)| a == b)
            .count();
        let excerpt = |bytes: &[u8]| {
            let rest = &bytes[wrong..];
            rest[..rest.len().min(40)].escape_ascii().to_string()
        };
        panic!(
            "byte {} of the replies to {self} is wrong: {:?} comes, {:?} should",
            self.received + wrong,
            excerpt(piece),
            excerpt(expected),
        );
    }

    /// The server has closed, or never let the client in.
    fn closed(&mut self, how: io::Result<()>, due: Due) {
        let everything = how.is_ok() && self.half_closed && self.received == self.expected.len();
        let nothing = self.received == 0;
        assert!(
            everything || due == Due::Beginning || due == Due::EverythingOrNothing && nothing,
            "the server has closed ({how:?}) on {self}, to whom {due:?} is due",
        );
        self.state = State::Over;
    }

    fn step(&mut self, due: Due) -> bool {
        let State::Connected(socket) = &mut self.state else {
            return false;
        };
        let Some(step) = self.script.steps.pop() else {
            // Nothing left but to hear the server out.
            let was_reading = mem::replace(&mut self.reading, true);
            return !was_reading;
        };
        match step {
            Step::Send(length) => return self.send(length, due),
            Step::CatchUp => {
                self.reading = true;
                if self.received < self.expected.len() {
                    self.script.steps.push(step);
                    return false;
                }
            }
            Step::Pause(turns) => {
                if turns > 0 {
                    self.script.steps.push(Step::Pause(turns - 1));
                    return false;
                }
            }
            Step::StopReading => self.reading = false,
            Step::Read => self.reading = true,
            Step::HalfClose => match socket.shutdown(Shutdown::Write) {
                Ok(()) => self.half_closed = true,
                Err(error) => self.closed(Err(error), due),
            },
            Step::Close => self.state = State::Over,
            Step::Reset => {
                let linger = socket.set_linger(Some(Duration::ZERO));
                linger.expect("a valid socket");
                self.state = State::Over;
            }
        }
        true
    }

    fn send(&mut self, length: usize, due: Due) -> bool {
        let State::Connected(socket) = &mut self.state else {
            return false;
        };
        let piece = &self.script.input[self.sent..][..length];
        match socket.write(piece) {
            Ok(sent) => {
                self.stuck = 0;
                let mut replies = piece[..sent].to_vec();
                let length_of_replies = self.reference.feed(&mut replies);
                self.expected
                    .extend_from_slice(&replies[..length_of_replies]);
                self.sent += sent;
                if sent < length {
                    self.script.steps.push(Step::Send(length - sent));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.script.steps.push(Step::Send(length));
                self.stuck += u32::from(!self.reading);
                // The server does not have to read from who does not.
                self.reading |= self.stuck > self.script.endurance;
                return false;
            }
            Err(error) => self.closed(Err(error), due),
        }
        true
    }
}

/// Where it has got to.
impl std::fmt::Display for Conversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "client {} ({} of {} bytes sent, {} of {} bytes received, {}next {:?})",
            self.number,
            self.sent,
            self.script.input.len(),
            self.received,
            self.expected.len(),
            if self.half_closed {
                "half-closed, "
            } else {
                ""
            },
            self.script.steps.last(),
        )
    }
}

fn connect(endpoint: &Endpoint, small_buffers: bool) -> io::Result<Socket> {
    let mut client = Client::connect(endpoint)?;
    if small_buffers {
        client = client.with_small_buffers();
    }
    let socket = Socket::from(OwnedFd::from(client));
    socket.set_nonblocking(true)?;
    Ok(socket)
}
