//! The machine for 64 bytes at once, as arithmetic on bit masks.
//!
//! Bit *i* stands for byte *i*. After an opening delimiter the machine is in a message, whatever
//! it was before; after a closing one it is not. So it is a latch: set by `open`, reset by
//! `close`, and the question is which bytes find it set. An addition answers that for all bytes,
//! because a carry travels just as the state does: it starts at an opening delimiter and runs
//! through ones, which stand for every byte but the closing delimiters, until it meets a zero.
//!
//! ```text
//!    input                        a ^ b c $ d ^ e ^ f $ g      byte 0 on the left, as carries run
//!    pass = !close                1 1 1 1 0 1 1 1 1 1 0 1
//!    open                         0 1 0 0 0 0 1 0 1 0 0 0
//!    pass + open                  1 0 0 0 1 1 0 0 1 0 1 1      a carry turns ones into zeros
//!    differs from pass            0 1 1 1 1 0 1 1 0 1 1 0
//!    … or open, and pass          0 1 1 1 0 0 1 1 1 1 0 0      in a message after the byte
//!    one byte later, and pass     0 0 1 1 0 0 0 1 1 1 0 0      is replied to: b c, e ^ f
//! ```

use super::State;

/// Which of 64 bytes are replied to, and the state after them, from the masks of opening and
/// closing delimiters among them and the state before. Without branches, so that it takes the same
/// time for any input.
#[inline(always)]
pub(super) fn latch(open: u64, close: u64, before: State) -> (u64, State) {
    let carry = u64::from(before == State::InMessage);
    let pass = !close;
    // A message that is open already is like one opened by the first byte, except that the first
    // byte is part of it. If that byte closes it, the carry meets its zero at once.
    let starts = open | carry;
    let in_message = ((pass.wrapping_add(starts) ^ pass) | starts) & pass;
    let replied = (in_message << 1 | carry) & pass;
    let after = if in_message >> 63 == 1 {
        State::InMessage
    } else {
        State::WaitForMessage
    };
    (replied, after)
}

#[cfg(test)]
mod tests {
    use super::State::{InMessage, WaitForMessage};
    use super::*;
    use proptest::prelude::*;

    /// The latch a bit at a time.
    fn bit_by_bit(open: u64, close: u64, mut state: State) -> (u64, State) {
        let mut replied = 0;
        for bit in (0..64).map(|at| 1 << at) {
            match state {
                WaitForMessage if open & bit != 0 => state = InMessage,
                InMessage if close & bit != 0 => state = WaitForMessage,
                InMessage => replied |= bit,
                WaitForMessage => {}
            }
        }
        (replied, state)
    }

    proptest! {
        #[test]
        fn the_addition_does_what_the_states_do(
            open: u64,
            close: u64,
            fewer: u64,
            in_message: bool,
        ) {
            let state = if in_message { InMessage } else { WaitForMessage };
            for (open, close) in [(open & !close, close), (open & fewer & !close, close & fewer)] {
                prop_assert_eq!(latch(open, close, state), bit_by_bit(open, close, state));
            }
        }
    }
}
