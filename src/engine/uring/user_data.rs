//! What a completion is about.

/// A connection as operations know it: its place in the table, and which of all the connections
/// that ever had this place it is.
///
/// What a completion is about travels through the kernel in the 64 bits of its `user_data`:
///
/// ```text
///  63          56 55               32 31                0
/// ┌──────────────┬───────────────────┬──────────────────┐
/// │ op           │ generation        │ index            │
/// └──────────────┴───────────────────┴──────────────────┘
/// ```
///
/// An operation that is cancelled completes later than its connection may want to be gone, and the
/// completion of the cancelling later still, when the place may belong to another connection. The
/// generation tells them apart until it has wrapped around, 16 million connections later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

const GENERATION_BITS: u32 = 24;

impl Key {
    /// For operations that are about no connection.
    pub(super) const NONE: Self = Self {
        index: 0,
        generation: 0,
    };

    /// The key of a connection at `index`; of `count`, its lower 24 bits count.
    pub(super) fn new(index: usize, count: u64) -> Self {
        Self {
            index: u32::try_from(index).expect("fewer connections than there are ports"),
            generation: (count & ((1 << GENERATION_BITS) - 1)) as u32,
        }
    }

    pub(super) fn index(self) -> usize {
        self.index as usize
    }
}

/// What was submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Op {
    Accept,
    Recv,
    Send,
    AwaitData,
    AwaitRoom,
    Close,
    CancelAccept,
    CancelRecv,
    CancelAwait,
    Sleep,
    Sweep,
    Check,
    Drain,
    Cut,
}

impl Op {
    const ALL: [Self; 14] = [
        Self::Accept,
        Self::Recv,
        Self::Send,
        Self::AwaitData,
        Self::AwaitRoom,
        Self::Close,
        Self::CancelAccept,
        Self::CancelRecv,
        Self::CancelAwait,
        Self::Sleep,
        Self::Sweep,
        Self::Check,
        Self::Drain,
        Self::Cut,
    ];

    /// What to submit such an operation of this connection with.
    pub(super) fn user_data(self, key: Key) -> u64 {
        u64::from(self as u8) << 56 | u64::from(key.generation) << 32 | u64::from(key.index)
    }

    /// What a completion with this is about.
    pub(super) fn from_user_data(user_data: u64) -> (Self, Key) {
        let key = Key {
            index: user_data as u32,
            generation: (user_data >> 32) as u32 & ((1 << GENERATION_BITS) - 1),
        };
        (Self::ALL[(user_data >> 56) as usize], key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_tells_the_operation_and_the_connection() {
        for op in Op::ALL {
            for (index, count) in [(0, 0), (1, 0xff_ffff), (u32::MAX as usize, 0x100_0001)] {
                let key = Key::new(index, count);
                let (found, of) = Op::from_user_data(op.user_data(key));
                assert_eq!((found, of), (op, key));
            }
        }
    }

    #[test]
    fn the_next_connections_in_a_place_have_other_keys() {
        let keys: Vec<_> = (0..1000).map(|count| Key::new(7, count)).collect();
        for (position, key) in keys.iter().enumerate() {
            assert!(!keys[..position].contains(key));
        }
    }
}
