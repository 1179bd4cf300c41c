//! What this kernel can do, found by doing it.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::ring::{Data, Event, Key, Receive, Reply, Ring, set_up};
use crate::features::{Feature, Features};
use crate::framing::GREETING;

/// How long the kernel may take for what it does in microseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes a ring with `features` and has a conversation over it, as every connection will: accepts,
/// sends, receives, closes.
///
/// # Errors
///
/// Why that is not possible; EINVAL where the kernel does not know one of the features.
pub(super) fn try_out(features: Features) -> io::Result<()> {
    let mut io_uring = set_up(8, features)?;
    let mut ring = Ring::new(&mut io_uring, features, 8)?;
    ring.sleep(PATIENCE);
    let (listener, mut client) = connected()?;

    let multishot = features.has(Feature::MultishotAccept);
    ring.accept(listener.as_fd(), multishot);
    let server = match next_event(&mut ring)? {
        Event::Accepted { result, more } if more == multishot => result?,
        other => return Err(unexpected(&other)),
    };
    let key = Key::new(0, 1);
    ring.send(key, &server, vec![Reply::Static(GREETING)]);
    match next_event(&mut ring)? {
        Event::Sent { result, .. } if result? == GREETING.len() => {}
        other => return Err(unexpected(&other)),
    }
    let mut byte = [0];
    client.read_exact(&mut byte)?;

    let how = if features.has(Feature::ProvidedBuffers) {
        Receive::Repeatedly
    } else {
        Receive::Into(byte.len())
    };
    ring.recv(key, &server, how);
    client.write_all(&byte)?;
    let received = match next_event(&mut ring)? {
        Event::Received { result, more, .. } if more == ring.repeats(how) => result?,
        other => return Err(unexpected(&other)),
    };
    match received {
        Data::Own(bytes) if bytes == byte => {}
        Data::Provided(mut received) => {
            while let Some(chunk) = ring.take(&mut received) {
                ring.release(chunk);
            }
        }
        _ => return Err(io::Error::other("the kernel received something else")),
    }
    ring.close(server);
    Ok(())
}

/// A listener with a client in its backlog. An empty name lets the kernel choose one that no file
/// stands for, see unix(7).
fn connected() -> io::Result<(Socket, UnixStream)> {
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    listener.bind(&SockAddr::unix("")?)?;
    listener.listen(1)?;
    let client = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    client.connect(&listener.local_addr()?)?;
    Ok((listener, client.into()))
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
