//! What this kernel can do, found by doing it.

use std::io::{self, Read, Write};
use std::net::Shutdown as Direction;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use super::ring::{Data, Event, Receive, Reply, Ring, Stream, set_up};
use super::user_data::Key;
use crate::features::{Feature, Features};
use crate::framing::GREETING;
use crate::poll::ready_within;

/// How long the kernel may take for what it does in microseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a client may take to notice that its connection was closed, which the kernel does
/// before the system call returns.
const NOTICE: Duration = Duration::from_millis(100);

/// Makes a ring with `features` and has a conversation over it, as every connection will: accepts,
/// sends, receives to the end of the stream, closes.
///
/// # Errors
///
/// Why that is not possible; EINVAL where the kernel does not know one of the features, ETIMEDOUT
/// where it knows it and something never happens.
pub(super) fn try_out(features: Features) -> io::Result<()> {
    let mut io_uring = set_up(8, features)?;
    let mut ring = Ring::new(&mut io_uring, features, 8)?;
    ring.sleep(PATIENCE);
    let listener = listener()?;
    let mut client = connect(&listener)?;
    let key = Key::new(0, 1);

    let multishot = features.has(Feature::MultishotAccept);
    ring.accept(listener.as_fd(), multishot);
    let server = accepted(&mut ring, multishot)?;
    if features.has(Feature::PollFirst) {
        require_checked_flags(&mut ring, key, &server)?;
    }

    // Received with the greeting's submission, so that it waits for what comes.
    let how = if features.has(Feature::ProvidedBuffers) {
        Receive::Repeatedly
    } else {
        Receive::Into(GREETING.len())
    };
    ring.recv(key, &server, how);
    ring.send(key, &server, vec![Reply::Static(GREETING)]);
    match next_event(&mut ring)? {
        Event::Sent { result, .. } if result? == GREETING.len() => {}
        other => return Err(unexpected(&other)),
    }
    if features.has(Feature::DirectDescriptors) {
        let leaver = connect(&listener)?;
        if !multishot {
            ring.accept(listener.as_fd(), multishot);
        }
        let leaving = accepted(&mut ring, multishot)?;
        require_prompt_close(&mut ring, leaving, leaver)?;
    }
    let mut greeting = [0; GREETING.len()];
    client.read_exact(&mut greeting)?;
    client.write_all(&greeting)?;
    // The end comes with the data, which some kernels lose in a multishot receive.
    client.shutdown(Direction::Write)?;
    let mut received = Vec::new();
    loop {
        let (data, more) = match next_event(&mut ring)? {
            Event::Received { result, more, .. } => (result?, more),
            other => return Err(unexpected(&other)),
        };
        match data {
            Data::End => break,
            Data::Own(bytes) => received.extend_from_slice(&bytes),
            Data::Provided(mut chunks) => {
                while let Some(chunk) = ring.take(&mut chunks) {
                    received.extend_from_slice(ring.bytes(&chunk));
                    ring.release(chunk);
                }
            }
        }
        if more != ring.repeats(how) {
            return Err(io::Error::other("a receive did not go on, or did"));
        }
        if !more {
            ring.recv(key, &server, how);
        }
    }
    if received != greeting {
        return Err(io::Error::other("the kernel received something else"));
    }
    close(&mut ring, server)
}

/// Before Linux 5.19 the kernel ignores the flags of a receive, and accepts any.
fn require_checked_flags(ring: &mut Ring<'_>, key: Key, stream: &Stream) -> io::Result<()> {
    ring.recv_with_unknown_flag(key, stream);
    match next_event(ring)? {
        Event::Received {
            result: Err(error), ..
        } if error == Errno::INVAL => Ok(()),
        _ => Err(Errno::INVAL.into()),
    }
}

/// Before Linux 6.13 the kernel lets go of a closed direct descriptor only when all operations on
/// direct descriptors have ended that began before: where one client is silent, others would never
/// hear that the server has closed. See <https://github.com/axboe/liburing/issues/1192>.
///
/// An operation on another connection must be pending.
fn require_prompt_close(
    ring: &mut Ring<'_>,
    server: Stream,
    mut client: UnixStream,
) -> io::Result<()> {
    close(ring, server)?;
    if ready_within(&client, PollFlags::IN, NOTICE)? && client.read(&mut [0])? == 0 {
        Ok(())
    } else {
        Err(Errno::INVAL.into())
    }
}

/// A listener on an address that the kernel chooses, which an empty name asks for, and that no file
/// stands for: see unix(7).
fn listener() -> io::Result<Socket> {
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    listener.bind(&SockAddr::unix("")?)?;
    listener.listen(1)?;
    Ok(listener)
}

fn connect(listener: &Socket) -> io::Result<UnixStream> {
    let client = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    client.connect(&listener.local_addr()?)?;
    Ok(client.into())
}

fn accepted(ring: &mut Ring<'_>, multishot: bool) -> io::Result<Stream> {
    match next_event(ring)? {
        Event::Accepted { result, more } if more == multishot => Ok(result?),
        other => Err(unexpected(&other)),
    }
}

fn close(ring: &mut Ring<'_>, stream: Stream) -> io::Result<()> {
    ring.close(stream);
    while ring.is_closing() {
        ring.submit_and_wait()?;
        while ring.next_event().is_some() {}
    }
    Ok(())
}

fn next_event(ring: &mut Ring<'_>) -> io::Result<Event> {
    loop {
        if let Some(event) = ring.next_event() {
            return match event {
                Event::Slept => Err(io::ErrorKind::TimedOut.into()),
                other => Ok(other),
            };
        }
        ring.submit_and_wait()?;
    }
}

fn unexpected(event: &Event) -> io::Error {
    match event {
        Event::Accepted {
            result: Err(error), ..
        }
        | Event::Sent {
            result: Err(error), ..
        }
        | Event::Received {
            result: Err(error), ..
        } => (*error).into(),
        other => io::Error::other(format!("the kernel answered with {other:?}")),
    }
}
