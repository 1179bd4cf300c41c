//! Blocking, one client at a time: the first server of the tutorial, and the baseline from which
//! all the others are measured.
//!
//! It is faithful to two habits of that server. Whoever connects second waits in the listen
//! backlog and sees its greeting only when the first has gone. And each byte of a reply is sent by
//! a call of its own, with Nagle's algorithm on: the first byte leaves at once, the others wait
//! for its acknowledgement and travel together, which is why the tutorial's client receives `b`
//! and then `cdbcuf`.

use std::io::{self, Write};
use std::thread;

use socket2::Socket;

use super::blocking::{Open, Stream};
use crate::framing::{Framer, GREETING};
use crate::worker::{Accepting, Worker};

/// The tutorial's buffer size, in bytes.
const BUFFER: usize = 1024;

pub(super) fn run(worker: Worker, listener: Socket) -> io::Result<()> {
    let open = Open::new(&worker, &listener)?;
    thread::scope(|scope| {
        thread::Builder::new().spawn_scoped(scope, || open.watch())?;
        (worker.ready)();
        let mut accepting = Accepting::default();
        while let Some(connection) = open.accept(&listener, 1, &mut accepting) {
            accepting.succeeded();
            open.serve(connection, converse);
        }
        open.finish();
        Ok(())
    })
}

fn converse(mut stream: Stream<'_>) -> io::Result<()> {
    send_each(&mut stream, GREETING)?;
    let mut framer = Framer::new();
    let mut buf = [0; BUFFER];
    loop {
        let received = stream.receive(&mut buf)?;
        if received == 0 {
            return Ok(());
        }
        let replied = framer.feed(&mut buf[..received]);
        send_each(&mut stream, &buf[..replied])?;
    }
}

/// One send for each byte.
fn send_each(mut stream: impl Write, reply: &[u8]) -> io::Result<()> {
    reply.chunks(1).try_for_each(|byte| stream.write_all(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reply_byte_is_sent_by_a_call_of_its_own() {
        struct Sends(Vec<Vec<u8>>);
        impl Write for Sends {
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                self.0.push(buf.to_vec());
                Ok(buf.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut sends = Sends(Vec::new());
        send_each(&mut sends, b"bcd").unwrap();
        assert_eq!(sends.0, [b"b", b"c", b"d"]);
    }
}
