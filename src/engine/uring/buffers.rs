//! Provided buffers: memory that the kernel picks from when data arrives, so that a connection
//! that waits holds none.
//!
//! Who owns a buffer, and where that changes:
//!
//! ```text
//!             post()                       a completion names it: take()
//!    free ─────────────▶ in the buffer ring ─────────────▶ Chunk ──send──▶ kernel
//!     ▲                                                      │                │
//!     └──────────────── give_back() ◀────────────────────────┴────completion──┘
//! ```
//!
//! A [`Chunk`] is the only access to a buffer's bytes and cannot be copied, so whoever holds one
//! is alone with those bytes.
//!
//! The kernel takes buffers in the order in which they were posted, and a buffer that was used
//! long ago is no longer in the processor's cache. So only about as many are posted as connections
//! have been seen to receive at once. They are small for the same reason, and so that little is
//! lost on a short message; a longer one takes several.

use std::io;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// The size of a buffer in bytes: what one receive brings at most.
///
/// Small ones keep what is in use within the processor's cache, see the module.
pub(super) const SIZE: usize = 4 * 1024;

/// From the start of a buffer to the start of the next. Not a multiple of the page size: the first
/// bytes of all buffers, where short messages go, would share the few places that the processor's
/// cache has for addresses which differ by whole pages.
const STRIDE: usize = SIZE + 64;

/// How many buffers there are at most; a power of two. Memory that was never used costs nothing.
const MOST: u16 = 512;

/// How many buffers are posted at first.
const FEWEST: u16 = 32;

/// The only buffer group of a ring.
pub(super) const GROUP: u16 = 0;

/// What one receive put into one buffer, or what is left of it to send.
#[derive(Debug)]
pub(super) struct Chunk {
    buffer: u16,
    start: u32,
    len: u32,
}

impl Chunk {
    /// Forgets all but the first `len` bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len as u32);
    }

    /// Forgets the first `len` bytes.
    pub(super) fn advance(&mut self, len: usize) {
        let len = self.len.min(len as u32);
        self.start += len;
        self.len -= len;
    }
}

/// What a completed receive has brought: one chunk, or several when the kernel filled a bundle of
/// buffers. To be taken with [`Pool::take`] to the end.
#[derive(Debug)]
pub(super) struct Received {
    /// The (next) buffer.
    buffer: u16,
    /// Bytes in it and in those after it.
    len: u32,
    /// Whether the kernel goes on filling the last buffer.
    unfinished: bool,
}

impl Received {
    /// What a completion says; only `ring.rs` sees completions.
    pub(super) fn new(buffer: u16, len: u32, unfinished: bool) -> Self {
        Self {
            buffer,
            len,
            unfinished,
        }
    }

    /// Bytes that have not been taken yet.
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }
}

/// The buffers of one ring.
pub(super) struct Pool {
    /// `MOST * STRIDE` bytes.
    memory: Pages,
    /// `MOST` entries, shared with the kernel.
    ring: Pages,
    /// The position after the last posted entry, see `io_uring_buf_ring_advance(3)`.
    tail: u16,
    /// The buffer at each position of the ring, and the position of each buffer: what comes after
    /// a buffer in a bundle.
    posted_at: Vec<u16>,
    position_of: Vec<u16>,
    /// Buffers in the ring.
    posted: u16,
    /// Buffers to keep in the ring.
    wanted: u16,
    /// Last in, first out, for the sake of the cache.
    free: Vec<u16>,
    /// Buffers from here on have never been used.
    fresh: u16,
    state: Vec<State>,
    /// Whether a buffer is used up piece by piece.
    incremental: bool,
}

/// How much of a buffer is in use.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// Bytes that the kernel has filled since the buffer was posted.
    filled: u32,
    /// Chunks of it that have not been given back.
    chunks: u16,
    /// Whether the kernel still has it.
    in_ring: bool,
}

/// Pages of zeros, of which those that are never touched cost nothing. Given back when dropped.
struct Pages {
    start: NonNull<u8>,
    len: usize,
}

impl Pages {
    fn map(len: usize) -> io::Result<Self> {
        // SAFETY: a new mapping, where the kernel chooses, aliases nothing.
        let start = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped with this length, and nothing refers to it any more: the kernel does not,
        // because a ring with operations in flight leaks its pool.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

impl Pool {
    /// Allocates the buffers and registers their ring.
    ///
    /// # Errors
    ///
    /// EINVAL before Linux 5.19, or 6.12 when `incremental`; ENOMEM.
    pub(super) fn register(submitter: &Submitter<'_>, incremental: bool) -> io::Result<Self> {
        const IOU_PBUF_RING_INC: u16 = 2;
        let pool = Self {
            memory: Pages::map(usize::from(MOST) * STRIDE)?,
            ring: Pages::map(usize::from(MOST) * size_of::<BufRingEntry>())?,
            tail: 0,
            posted_at: vec![0; MOST.into()],
            position_of: vec![0; MOST.into()],
            posted: 0,
            wanted: FEWEST,
            free: Vec::with_capacity(MOST.into()),
            fresh: 0,
            state: vec![State::default(); MOST.into()],
            incremental,
        };
        let flags = if incremental { IOU_PBUF_RING_INC } else { 0 };
        // SAFETY: the address is that of MOST entries, at the start of a page, which live until
        // the pool is dropped; `Ring` unregisters the buffer ring before that, or leaks the pool.
        unsafe {
            submitter.register_buf_ring_with_flags(
                pool.ring.start.as_ptr() as u64,
                MOST,
                GROUP,
                flags,
            )?;
        }
        Ok(pool)
    }

    /// Posts buffers until as many are in the ring as are wanted, or none is free.
    pub(super) fn post(&mut self) {
        if self.posted >= self.wanted {
            return;
        }
        while self.posted < self.wanted {
            let buffer = match self.free.pop() {
                Some(buffer) => buffer,
                None if self.fresh < MOST => {
                    self.fresh += 1;
                    self.fresh - 1
                }
                None => break,
            };
            self.post_one(buffer);
        }
        // SAFETY: the pointer is to the tail of the ring that this pool owns, in its first entry
        // and aligned; the kernel reads it atomically.
        let tail = unsafe {
            let tail = BufRingEntry::tail(self.entries()).cast_mut();
            AtomicU16::from_ptr(tail)
        };
        // The entries first: the kernel reads the tail with acquire.
        tail.store(self.tail, Ordering::Release);
    }

    fn entries(&self) -> *mut BufRingEntry {
        self.ring.start.as_ptr().cast()
    }

    fn post_one(&mut self, buffer: u16) {
        let position = self.tail & (MOST - 1);
        // SAFETY: the position is below MOST. The kernel does not look at entries at or after the
        // published tail, and no more than MOST buffers exist, so it is done with this one. Fields
        // are written one by one because the first entry's last field is the tail itself.
        unsafe {
            let entry = &mut *self.entries().add(position.into());
            entry.set_addr(self.memory.start.as_ptr().add(usize::from(buffer) * STRIDE) as u64);
            entry.set_len(SIZE as u32);
            entry.set_bid(buffer);
        }
        self.posted_at[usize::from(position)] = buffer;
        self.position_of[usize::from(buffer)] = position;
        self.state[usize::from(buffer)] = State {
            in_ring: true,
            ..State::default()
        };
        self.tail = self.tail.wrapping_add(1);
        self.posted += 1;
    }

    /// Keeps enough buffers posted for so many connections to receive at once.
    pub(super) fn provide_for(&mut self, connections: usize) {
        let wanted = (2 * connections).next_power_of_two().min(MOST.into());
        self.wanted = self.wanted.max(wanted as u16);
    }

    /// The next chunk of what has been received.
    pub(super) fn take(&mut self, received: &mut Received) -> Option<Chunk> {
        if received.len == 0 {
            return None;
        }
        let buffer = received.buffer;
        let state = self.state[usize::from(buffer)];
        assert!(
            state.in_ring,
            "the kernel filled a buffer that it did not have"
        );
        let start = state.filled;
        let size = if self.incremental {
            SIZE as u32
        } else {
            // The kernel may have shortened the entry when it looked at what there was to receive
            // into a bundle (io_ring_buffers_peek), and then have put it back: the length that it
            // went by is the one that is there.
            self.posted_size(buffer).min(SIZE as u32)
        };
        let state = &mut self.state[usize::from(buffer)];
        let len = received.len.min(size - start);
        received.len -= len;
        state.filled += len;
        state.chunks += 1;
        if received.len > 0 || !received.unfinished {
            state.in_ring = false;
            self.posted -= 1;
        }
        if received.len > 0 {
            let next = (self.position_of[usize::from(buffer)] + 1) & (MOST - 1);
            received.buffer = self.posted_at[usize::from(next)];
        }
        Some(Chunk { buffer, start, len })
    }

    /// The length of a buffer as its entry has it.
    fn posted_size(&self, buffer: u16) -> u32 {
        let position = self.position_of[usize::from(buffer)];
        // SAFETY: the position is below MOST. The entry stays as it is until another buffer is
        // posted there, which takes all others to be posted before and this one to be free. The
        // kernel is done with it, as with the buffer.
        unsafe { (*self.entries().add(position.into())).len() }
    }

    /// The kernel took this buffer and put nothing into it.
    pub(super) fn take_unused(&mut self, buffer: u16) {
        let state = &mut self.state[usize::from(buffer)];
        state.in_ring = false;
        self.posted -= 1;
        if state.chunks == 0 {
            self.free.push(buffer);
        }
    }

    /// The bytes of a chunk.
    pub(super) fn bytes(&self, chunk: &Chunk) -> &[u8] {
        // SAFETY: as for `bytes_mut`, and chunks are not written to through shared references.
        unsafe { slice::from_raw_parts(self.start_of(chunk), chunk.len as usize) }
    }

    /// The bytes of a chunk.
    pub(super) fn bytes_mut(&mut self, chunk: &mut Chunk) -> &mut [u8] {
        // SAFETY: a chunk lies within its buffer, whose memory lives and is initialised as long as
        // the pool. No other chunk covers these bytes, and the kernel has been over them: what it
        // still may fill of the buffer begins after them.
        unsafe { slice::from_raw_parts_mut(self.start_of(chunk), chunk.len as usize) }
    }

    fn start_of(&self, chunk: &Chunk) -> *mut u8 {
        let offset = usize::from(chunk.buffer) * STRIDE + chunk.start as usize;
        // SAFETY: within the allocation, as chunks are.
        unsafe { self.memory.start.as_ptr().add(offset) }
    }

    /// Takes a chunk back; its buffer is free when nobody uses any of it.
    pub(super) fn give_back(&mut self, chunk: Chunk) {
        let state = &mut self.state[usize::from(chunk.buffer)];
        state.chunks -= 1;
        if state.chunks == 0 && !state.in_ring {
            self.free.push(chunk.buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use io_uring::IoUring;

    use super::*;

    #[test]
    fn a_bundle_is_taken_apart_by_the_lengths_that_the_kernel_went_by() {
        let ring = IoUring::new(1).unwrap();
        // Before Linux 5.19 there are no provided buffers, nor bundles.
        let Ok(mut pool) = Pool::register(&ring.submitter(), false) else {
            return;
        };
        pool.post();
        // The kernel has shortened the first entry, in vain that time, and now filled three.
        // SAFETY: no operation is in flight that could look at the entry.
        unsafe { (*pool.entries()).set_len(100) };
        let mut received = Received::new(0, 100 + SIZE as u32 + 7, false);
        let chunks: Vec<_> = std::iter::from_fn(|| pool.take(&mut received)).collect();
        let lengths: Vec<_> = chunks.iter().map(|chunk| chunk.len as usize).collect();
        assert_eq!(lengths, [100, SIZE, 7]);
        chunks.into_iter().for_each(|chunk| pool.give_back(chunk));
        ring.submitter().unregister_buf_ring(GROUP).unwrap();
    }
}
