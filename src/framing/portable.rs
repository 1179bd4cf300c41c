//! For any processor: blocks of 64 bytes, without a branch that depends on the bytes but for the
//! shortcut for blocks without a delimiter. Comparisons and additions over arrays of bytes become
//! whatever vectors the compilation's target has; the [`latch`] tells which bytes are replied to;
//! and words of eight bytes are packed by moves that a table has for each selection.

use super::State::{self, InMessage, WaitForMessage};
use super::latch::latch;
use super::{CLOSE, OPEN, reference};

/// Bytes that are handled together.
const BLOCK: usize = 64;

pub(super) fn feed(buf: &mut [u8], state: State) -> (usize, State) {
    feed_from(buf, 0, 0, state)
}

/// Goes on where another path has left off: `read` bytes are consumed, `replied` are written.
pub(super) fn feed_from(
    buf: &mut [u8],
    mut read: usize,
    mut replied: usize,
    mut state: State,
) -> (usize, State) {
    // Throughout, replied <= read: a byte that is read adds at most one to the reply. So no store
    // below reaches what is still to be read.
    while let Some(&block) = buf[read..].first_chunk::<BLOCK>() {
        read += BLOCK;
        // Only one of the delimiters can change the state.
        let changes = match state {
            WaitForMessage => contains(&block, OPEN),
            InMessage => contains(&block, CLOSE),
        };
        if changes {
            let (selected, after) = latch(mask(&block, OPEN), mask(&block, CLOSE), state);
            state = after;
            let words = words(&block.map(|byte| byte.wrapping_add(1)));
            for (word, selection) in words.into_iter().zip(selected.to_le_bytes()) {
                let moves = &MOVES[usize::from(selection)];
                let packed = moves.pack(word).to_le_bytes();
                buf[replied..][..packed.len()].copy_from_slice(&packed);
                replied += moves.count;
            }
        } else if state == InMessage {
            let reply = block.map(|byte| byte.wrapping_add(1));
            buf[replied..][..BLOCK].copy_from_slice(&reply);
            replied += BLOCK;
        }
    }
    reference::feed_from(buf, read, replied, state)
}

/// Without an early exit, or it would not become vectors.
#[inline(always)]
fn contains(block: &[u8; BLOCK], wanted: u8) -> bool {
    block
        .iter()
        .fold(0, |found, &byte| found | u8::from(byte == wanted))
        != 0
}

/// A mask of the bytes that equal `wanted`.
#[inline(always)]
fn mask(block: &[u8; BLOCK], wanted: u8) -> u64 {
    /// Moves the lowest bit of byte *i* to bit 56 + *i*.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let equal = words(&block.map(|byte| u8::from(byte == wanted)));
    u64::from_le_bytes(equal.map(|word| (word.wrapping_mul(GATHER) >> 56) as u8))
}

#[inline(always)]
fn words(block: &[u8; BLOCK]) -> [u64; 8] {
    let (words, _) = block.as_chunks::<8>();
    std::array::from_fn(|at| u64::from_le_bytes(words[at]))
}

/// How to pack the selected bytes of a word of eight: each moves towards byte 0 by as many places
/// as bytes before it are not selected, in steps of one, two and four places.
#[derive(Clone, Copy)]
struct Moves {
    selected: u64,
    by_one: u64,
    by_two: u64,
    by_four: u64,
    count: usize,
}

static MOVES: [Moves; 256] = {
    let mut table = [Moves::of(0); 256];
    let mut selection = 0;
    while selection < 256 {
        table[selection] = Moves::of(selection as u8);
        selection += 1;
    }
    table
};

impl Moves {
    const fn of(selection: u8) -> Self {
        let mut moves = Self {
            selected: 0,
            by_one: 0,
            by_two: 0,
            by_four: 0,
            count: 0,
        };
        let mut from = 0;
        while from < 8 {
            if selection >> from & 1 == 1 {
                let distance = from - moves.count;
                moves.selected |= 0xFF << (8 * from);
                moves.by_one |= (0xFF * (distance & 1) as u64) << (8 * from);
                let from_two = from - (distance & 1);
                moves.by_two |= (0xFF * (distance >> 1 & 1) as u64) << (8 * from_two);
                let from_four = from - (distance & 3);
                moves.by_four |= (0xFF * (distance >> 2 & 1) as u64) << (8 * from_four);
                moves.count += 1;
            }
            from += 1;
        }
        moves
    }

    #[inline(always)]
    fn pack(&self, word: u64) -> u64 {
        let mut word = word & self.selected;
        for (moved, bits) in [(self.by_one, 8), (self.by_two, 16), (self.by_four, 32)] {
            let moving = word & moved;
            word = (word ^ moving) | moving >> bits;
        }
        word
    }
}
