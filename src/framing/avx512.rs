//! 64 bytes at a time with AVX-512: two comparisons give the delimiters as bit masks, the
//! [`latch`] tells which bytes are replied to, one addition makes the replies and one compression
//! packs them. Nothing in it depends on the data but the shortcut for blocks without a delimiter.

use std::arch::x86_64::*;

use super::State::{self, InMessage};
use super::latch::latch;
use super::{CLOSE, OPEN};

/// Bytes in a vector.
const VECTOR: usize = 64;

/// Bytes that the shortcut looks at together.
const BLOCK: usize = 4 * VECTOR;

/// # Safety
///
/// The processor has the features below.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,bmi1,bmi2,popcnt")]
pub(super) fn feed(buf: &mut [u8], mut state: State) -> (usize, State) {
    let open = _mm512_set1_epi8(OPEN as i8);
    let close = _mm512_set1_epi8(CLOSE as i8);
    let one = _mm512_set1_epi8(1);
    let length = buf.len();
    let start = buf.as_mut_ptr();
    // Throughout, replied <= read <= length: a byte that is read adds at most one to the reply.
    // A store of as many bytes as were just loaded therefore ends at or before `read`, and touches
    // nothing that is still to be loaded.
    let mut read = 0;
    let mut replied = 0;

    while length - read >= BLOCK {
        // SAFETY: these are the BLOCK bytes from `read`, which end within the buffer.
        let block: [__m512i; 4] = unsafe {
            let from = start.add(read).cast::<__m512i>();
            [
                _mm512_loadu_si512(from),
                _mm512_loadu_si512(from.add(1)),
                _mm512_loadu_si512(from.add(2)),
                _mm512_loadu_si512(from.add(3)),
            ]
        };
        read += BLOCK;

        // Only one of the delimiters can change the state. A byte that equals it differs from it
        // by zero, and the minimum of four keeps a zero.
        let wanted = if state == InMessage { close } else { open };
        let differences = block.map(|vector| _mm512_xor_si512(vector, wanted));
        let least = _mm512_min_epu8(
            _mm512_min_epu8(differences[0], differences[1]),
            _mm512_min_epu8(differences[2], differences[3]),
        );
        if _mm512_test_epi8_mask(least, least) == u64::MAX {
            if state == InMessage {
                for (at, vector) in block.into_iter().enumerate() {
                    // SAFETY: the BLOCK bytes from `replied` end at or before `read`, since
                    // `replied` is at or before the block's start.
                    unsafe {
                        let to = start.add(replied + at * VECTOR).cast();
                        _mm512_storeu_si512(to, _mm512_add_epi8(vector, one));
                    }
                }
                replied += BLOCK;
            }
            continue;
        }

        for vector in block {
            let opened = _mm512_cmpeq_epi8_mask(vector, open);
            let closed = _mm512_cmpeq_epi8_mask(vector, close);
            let (wanted, after) = latch(opened, closed, state);
            let reply = _mm512_maskz_compress_epi8(wanted, _mm512_add_epi8(vector, one));
            // SAFETY: `replied` is at or before this vector's start, so its VECTOR bytes end at or
            // before `read`; the block's later vectors are in registers already.
            unsafe { _mm512_storeu_si512(start.add(replied).cast(), reply) };
            replied += wanted.count_ones() as usize;
            state = after;
        }
    }

    while read < length {
        let count = (length - read).min(VECTOR);
        let valid = _bzhi_u64(u64::MAX, count as u32);
        // SAFETY: only the `count` bytes from `read` are loaded, which end within the buffer.
        let vector = unsafe { _mm512_maskz_loadu_epi8(valid, start.add(read).cast()) };
        read += count;
        let opened = _mm512_cmpeq_epi8_mask(vector, open);
        let closed = _mm512_cmpeq_epi8_mask(vector, close);
        // The bytes that are not there are loaded as zeros. Those leave the state as it is, and
        // must not be replied to.
        let (wanted, after) = latch(opened, closed, state);
        let wanted = wanted & valid;
        let reply = _mm512_maskz_compress_epi8(wanted, _mm512_add_epi8(vector, one));
        let packed = wanted.count_ones();
        // SAFETY: as many bytes as were packed, `count` at most, are stored from `replied` on; they
        // end at or before `read`.
        unsafe {
            let mask = _bzhi_u64(u64::MAX, packed);
            _mm512_mask_storeu_epi8(start.add(replied).cast(), mask, reply);
        }
        replied += packed as usize;
        state = after;
    }
    (replied, state)
}
