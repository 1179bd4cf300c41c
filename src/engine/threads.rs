//! Blocking, a thread per connection: as simple as a server that serves many clients can be.
//!
//! Each worker is a thread that accepts; each connection a thread that receives, feeds and sends,
//! and blocks in each. The price is a stack per connection and a context switch per wake-up.

use std::fs;
use std::io::{self, Write};
use std::thread;

use socket2::Socket;

use super::blocking::{Open, Stream};
use crate::buffer;
use crate::framing::{Framer, GREETING};
use crate::worker::{Accepting, OnFailure, Worker};

/// A connection's stack, in bytes. Its buffer is on the heap, so the conversation needs little: a
/// few hundred bytes optimised, some 20 KiB not. The rest is room for the standard library's start
/// of a thread, and untouched pages cost nothing.
const STACK: usize = 64 * 1024;

/// How many connections can be open at once before the process runs out of memory mappings: each
/// thread takes four (two stacks, two guard pages), and when the last of them cannot be had the
/// standard library aborts. The rest of the process has its share, too.
pub(super) fn max_connections() -> usize {
    const MAPPINGS_PER_THREAD: usize = 4;
    const MAPPINGS_OF_PROCESS: usize = 2000;
    fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|count| count.trim().parse::<usize>().ok())
        .map_or(usize::MAX, |count| {
            (count.saturating_sub(MAPPINGS_OF_PROCESS) / MAPPINGS_PER_THREAD).max(1)
        })
}

pub(super) fn run(worker: Worker, listener: Socket) -> io::Result<()> {
    let open = Open::new(&worker, &listener)?;
    let open = &open;
    thread::scope(|scope| {
        thread::Builder::new().spawn_scoped(scope, || open.watch())?;
        (worker.ready)();
        let mut accepting = Accepting::default();
        let limit = worker.max_connections;
        'accepting: while let Some(connection) = open.accept(&listener, limit, &mut accepting) {
            // The thread looks its connection up in the table, so that when no thread can be had
            // the connection is still here to wait for one.
            while let Err(error) = thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, move || open.serve(connection, converse))
            {
                match accepting.failed(&error, &worker.shutdown) {
                    OnFailure::Stop => {
                        drop(open.place(connection));
                        break 'accepting;
                    }
                    OnFailure::Retry => {}
                    OnFailure::Wait(time) => thread::sleep(time),
                }
            }
            accepting.succeeded();
        }
        open.finish();
        Ok(())
    })
}

fn converse(mut stream: Stream<'_>) -> io::Result<()> {
    stream.write_all(GREETING)?;
    let mut framer = Framer::new();
    let mut buf = vec![0; buffer::SMALLEST];
    loop {
        let received = stream.receive(&mut buf)?;
        if received == 0 {
            return Ok(());
        }
        let replied = framer.feed(&mut buf[..received]);
        stream.write_all(&buf[..replied])?;
        let size = buffer::next_size(buf.len(), received);
        if size != buf.len() {
            buf = vec![0; size];
        }
    }
}
