//! A byte at a time, straight from the protocol's table. What the other paths are tested against.

use super::State::{self, InMessage, WaitForMessage};
use super::{CLOSE, OPEN};

pub(super) fn feed(buf: &mut [u8], mut state: State) -> (usize, State) {
    let mut replied = 0;
    for at in 0..buf.len() {
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
