//! How large a connection's next read should be.
//!
//! A completion-based read owns its buffer for as long as it is pending, which on an idle
//! connection is nearly always; so does a thread that blocks in `recv(2)`. Small buffers keep ten
//! thousand idle connections cheap, large ones keep system calls from dominating a bulk stream.
//! Hence: start small, grow while reads fill the buffer. A read that does not fill it has emptied
//! the socket, the next one will have to wait, and nobody waits with a large buffer.

/// Bytes to ask for in a connection's first read.
pub const SMALLEST: usize = 512;

/// The most, in bytes, that a read waits with: what a connection holds that is idle after larger
/// messages, and the longest message that is answered with one read and one write.
pub const WAITING: usize = 4 * 1024;

/// Bytes that a bulk stream moves with one system call at most. A client that does not read its
/// replies makes the server hold one buffer of this size; `uring`, which receives while it sends,
/// two.
pub const LARGEST: usize = 64 * 1024;

/// How much a buffer grows at once: two steps lead from any size to the largest.
const GROWTH: usize = 16;

/// The size of the next read, in bytes, after one of `size` bytes brought `read`.
pub fn next_size(size: usize, read: usize) -> usize {
    if read >= size {
        (size * GROWTH).min(LARGEST)
    } else {
        read.next_power_of_two().clamp(SMALLEST, WAITING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_full_reads_lead_to_the_largest_size_and_no_further() {
        let second = next_size(SMALLEST, SMALLEST);
        assert_eq!(next_size(second, second), LARGEST);
        assert_eq!(next_size(LARGEST, LARGEST), LARGEST);
        assert_eq!(next_size(WAITING, WAITING), LARGEST);
    }

    #[test]
    fn no_read_waits_with_a_large_buffer() {
        for read in 0..LARGEST {
            assert!(next_size(LARGEST, read) <= WAITING);
        }
    }

    #[test]
    fn the_next_message_of_the_same_length_fits() {
        for length in 1..WAITING {
            assert!(next_size(LARGEST, length) >= length);
        }
        assert_eq!(next_size(SMALLEST, 32), SMALLEST);
    }
}
