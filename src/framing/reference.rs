//! A byte at a time, straight from the protocol's table. What the other paths are tested against.

use super::State::{self, InMessage, WaitForMessage};
use super::{CLOSE, OPEN};

pub(super) fn feed(buf: &mut [u8], state: State) -> (usize, State) {
    feed_from(buf, 0, 0, state)
}

/// Goes on where another path has left off: `read` bytes are consumed, `replied` are written.
#[inline(always)]
pub(super) fn feed_from(
    buf: &mut [u8],
    read: usize,
    mut replied: usize,
    mut state: State,
) -> (usize, State) {
    for at in read..buf.len() {
        match (state, buf[at]) {
            (WaitForMessage, OPEN) => state = InMessage,
            (WaitForMessage, _) => {}
            (InMessage, CLOSE) => state = WaitForMessage,
            (InMessage, byte) => {
                buf[replied] = byte.wrapping_add(1);
                replied += 1;
            }
        }
    }
    (replied, state)
}
