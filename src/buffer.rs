//! How large a connection's next read should be.
//!
//! A completion-based read owns its buffer for as long as it is pending, which on an idle
//! connection is nearly always; so does a thread that blocks in `recv(2)`. Small buffers keep ten
//! thousand idle connections cheap, large ones keep system calls from dominating a bulk stream.
//! Hence: start small, grow while reads fill the buffer, shrink when they do not.

/// Bytes to ask for in a connection's first read, and what an idle connection holds in the end.
pub const SMALLEST: usize = 512;

/// Bytes that a bulk stream moves with one system call at most, and the bound on what a client
/// that does not read its replies can make the server hold.
pub const LARGEST: usize = 64 * 1024;

/// How much a buffer grows or shrinks at once.
const FACTOR: usize = 4;

/// The size of the next read, in bytes, after one of `size` bytes brought `read`.
pub fn next_size(size: usize, read: usize) -> usize {
    if read >= size {
        (size * FACTOR).min(LARGEST)
    } else if read < size / FACTOR {
        (size / FACTOR).max(SMALLEST)
    } else {
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_reads_lead_from_the_smallest_size_to_the_largest() {
        let mut size = SMALLEST;
        for _ in 0..8 {
            size = next_size(size, size);
        }
        assert_eq!(size, LARGEST);
    }

    #[test]
    fn small_messages_lead_back_to_the_smallest_size() {
        let mut size = LARGEST;
        for _ in 0..8 {
            size = next_size(size, 32);
        }
        assert_eq!(size, SMALLEST);
    }

    #[test]
    fn a_read_that_half_fills_the_buffer_changes_nothing() {
        assert_eq!(next_size(8192, 4096), 8192);
    }
}
