//! How large a connection's next read should be.
//!
//! A completion-based read owns its buffer for as long as it is pending, which on an idle
//! connection is nearly always; so does a thread that blocks in `recv(2)`. Small buffers keep ten
//! thousand idle connections cheap, large ones keep system calls from dominating a bulk stream.
//! Hence: start small, grow while reads fill the buffer. A read that does not fill it has emptied
//! the socket, the next one will have to wait, and nobody waits with a large buffer.
//!
//! What comes in batches comes again, so the buffer that waits is one that the last batch would have
//! fitted: after a read that had to grow its buffer the rest of the batch says little, and the size
//! halves with each read that did not need it instead of following the last one down.

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
        // Larger than what came, or the next of the same length would look like a part of more.
        let fitting = (read + 1).next_power_of_two();
        fitting.max(size / 2).clamp(SMALLEST, WAITING)
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

    /// Reads what there is until a read does not fill its buffer. Returns how many reads that was,
    /// and with how large a buffer the next one waits.
    fn read_all(mut available: usize, mut size: usize) -> (usize, usize) {
        let mut reads = 0;
        while available > 0 {
            let read = available.min(size);
            available -= read;
            reads += 1;
            size = next_size(size, read);
        }
        (reads, size)
    }

    #[test]
    fn batches_of_any_depth_and_size_take_no_more_reads_than_they_must() {
        for depth in 1..=64 {
            for message in [
                3, 16, 31, 32, 33, 34, 63, 64, 65, 128, 255, 256, 257, 1024, 4098,
            ] {
                let batch = depth * message;
                let must = if batch <= WAITING {
                    1
                } else {
                    1 + (batch - WAITING).div_ceil(LARGEST)
                };
                let mut size = SMALLEST;
                for round in 0..40 {
                    let reads;
                    (reads, size) = read_all(batch, size);
                    // The first few are there to find the size.
                    assert!(
                        round < 3 || reads <= must,
                        "{depth} messages of {message} bytes take {reads} reads, not {must}"
                    );
                }
            }
        }
    }

    #[test]
    fn few_small_messages_are_enough_to_shrink_the_buffer() {
        let mut size = WAITING;
        for _ in 0..3 {
            size = next_size(size, 32);
        }
        assert_eq!(size, SMALLEST);
    }
}
