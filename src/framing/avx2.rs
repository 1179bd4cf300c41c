//! 64 bytes at a time with AVX2: comparisons give the delimiters as bit masks and the [`latch`]
//! tells which bytes are replied to. There is no instruction that packs those, so each group of
//! eight is shuffled by a table that has the shuffle for each of the 256 possible selections.

use std::arch::x86_64::*;

use super::State::{self, InMessage};
use super::latch::latch;
use super::{CLOSE, OPEN, portable};

/// Bytes in a vector.
const VECTOR: usize = 32;

/// Bytes whose masks make a word.
const BLOCK: usize = 2 * VECTOR;

/// Bytes that one shuffle packs.
const GROUP: usize = 8;

/// For each selection of eight bytes, the indices of those selected, in order. What follows them
/// does not matter.
static PACKED: [[u8; GROUP]; 256] = {
    let mut table = [[0; GROUP]; 256];
    let mut selection = 0;
    while selection < 256 {
        let (mut from, mut to) = (0, 0);
        while from < GROUP {
            if selection >> from & 1 == 1 {
                table[selection][to] = from as u8;
                to += 1;
            }
            from += 1;
        }
        selection += 1;
    }
    table
};

/// # Safety
///
/// The processor has the features below.
#[target_feature(enable = "avx2,bmi1,popcnt")]
pub(super) fn feed(buf: &mut [u8], mut state: State) -> (usize, State) {
    let open = _mm256_set1_epi8(OPEN as i8);
    let close = _mm256_set1_epi8(CLOSE as i8);
    let one = _mm256_set1_epi8(1);
    let length = buf.len();
    let start = buf.as_mut_ptr();
    // Throughout, replied <= read <= length: a byte that is read adds at most one to the reply.
    // A store of as many bytes as were just loaded therefore ends at or before `read`, and touches
    // nothing that is still to be loaded.
    let mut read = 0;
    let mut replied = 0;

    while length - read >= BLOCK {
        // SAFETY: these are the BLOCK bytes from `read`, which end within the buffer.
        let (low, high) = unsafe {
            let from = start.add(read).cast::<__m256i>();
            (_mm256_loadu_si256(from), _mm256_loadu_si256(from.add(1)))
        };
        read += BLOCK;

        // Only one of the delimiters can change the state.
        let wanted = if state == InMessage { close } else { open };
        let found = _mm256_or_si256(
            _mm256_cmpeq_epi8(low, wanted),
            _mm256_cmpeq_epi8(high, wanted),
        );
        let (low_reply, high_reply) = (_mm256_add_epi8(low, one), _mm256_add_epi8(high, one));
        if _mm256_testz_si256(found, found) == 1 {
            if state == InMessage {
                // SAFETY: the BLOCK bytes from `replied` end at or before `read`, since `replied`
                // is at or before the block's start.
                unsafe {
                    let to = start.add(replied).cast::<__m256i>();
                    _mm256_storeu_si256(to, low_reply);
                    _mm256_storeu_si256(to.add(1), high_reply);
                }
                replied += BLOCK;
            }
            continue;
        }

        let mask = |delimiter| {
            let low = _mm256_movemask_epi8(_mm256_cmpeq_epi8(low, delimiter)) as u32;
            let high = _mm256_movemask_epi8(_mm256_cmpeq_epi8(high, delimiter)) as u32;
            u64::from(low) | u64::from(high) << VECTOR
        };
        let (selected, after) = latch(mask(open), mask(close), state);
        state = after;
        let halves = [
            _mm256_castsi256_si128(low_reply),
            _mm256_extracti128_si256::<1>(low_reply),
            _mm256_castsi256_si128(high_reply),
            _mm256_extracti128_si256::<1>(high_reply),
        ];
        let groups = halves
            .into_iter()
            .flat_map(|half| [half, _mm_unpackhi_epi64(half, half)]);
        for (group, selection) in groups.zip(selected.to_le_bytes()) {
            // SAFETY: eight bytes are loaded from an array of eight. Eight are stored from
            // `replied` on, which is at or before this group's start, so they end at or before
            // `read`; the block's later groups are in registers already.
            unsafe {
                let indices = _mm_loadl_epi64(PACKED[usize::from(selection)].as_ptr().cast());
                let packed = _mm_shuffle_epi8(group, indices);
                _mm_storel_epi64(start.add(replied).cast(), packed);
            }
            replied += selection.count_ones() as usize;
        }
    }
    portable::feed_from(buf, read, replied, state)
}
