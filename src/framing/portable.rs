//! For any processor: the state is the place in the code, and blocks without a delimiter go at
//! once, which compilers turn into whatever vectors the target has.

use super::State::{self, InMessage, WaitForMessage};
use super::{CLOSE, OPEN};

/// Bytes that are looked at together.
const BLOCK: usize = 64;

/// Bytes at the start of a message that are handled singly, so that short messages do not pay for
/// looking at blocks in vain.
const SINGLY: usize = 16;

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
    while read < buf.len() {
        match state {
            WaitForMessage => {
                let Some(found) = position(&buf[read..], OPEN) else {
                    return (replied, WaitForMessage);
                };
                read += found + 1;
                state = InMessage;
            }
            InMessage => {
                let (consumed, closed) = message(buf, read, replied);
                // All but the closing delimiter is replied to.
                replied += consumed - usize::from(closed);
                read += consumed;
                if closed {
                    state = WaitForMessage;
                }
            }
        }
    }
    (replied, state)
}

/// Replies to what follows of a message; how many bytes that were, and whether it is closed.
#[inline(always)]
fn message(buf: &mut [u8], start: usize, replied: usize) -> (usize, bool) {
    // The reply moves towards the front by as much as was not replied to so far.
    let shift = start - replied;
    let mut read = start;
    let mut singly = SINGLY;
    loop {
        let end = buf.len().min(read + singly);
        while read < end {
            let byte = buf[read];
            if byte == CLOSE {
                return (read + 1 - start, true);
            }
            buf[read - shift] = byte.wrapping_add(1);
            read += 1;
        }
        while let Some(block) = buf[read..].first_chunk::<BLOCK>() {
            if contains(block, CLOSE) {
                break;
            }
            let reply = block.map(|byte| byte.wrapping_add(1));
            buf[read - shift..][..BLOCK].copy_from_slice(&reply);
            read += BLOCK;
        }
        if read == buf.len() {
            return (read - start, false);
        }
        // The next block has the delimiter, or is the input's last and shorter.
        singly = BLOCK;
    }
}

/// Where in `bytes` the first `wanted` is.
#[inline(always)]
fn position(bytes: &[u8], wanted: u8) -> Option<usize> {
    let singly = bytes.len().min(SINGLY);
    if let Some(found) = bytes[..singly].iter().position(|&byte| byte == wanted) {
        return Some(found);
    }
    let mut read = singly;
    while let Some(block) = bytes[read..].first_chunk::<BLOCK>() {
        if contains(block, wanted) {
            break;
        }
        read += BLOCK;
    }
    let found = bytes[read..].iter().position(|&byte| byte == wanted)?;
    Some(read + found)
}

/// Without an early exit, or it would not become vectors.
#[inline(always)]
fn contains(block: &[u8; BLOCK], wanted: u8) -> bool {
    block
        .iter()
        .fold(false, |found, &byte| found | (byte == wanted))
}
