//! The protocol, without I/O: a two-state Mealy machine over bytes.
//!
//! | state | input | reply | next state |
//! | --- | --- | --- | --- |
//! | `WaitForMessage` | `^` | none | `InMessage` |
//! | `WaitForMessage` | any other byte | none | `WaitForMessage` |
//! | `InMessage` | `$` | none | `WaitForMessage` |
//! | `InMessage` | any other byte *b*, `^` included | (*b* + 1) mod 256 | `InMessage` |
//!
//! Messages have no length limit and are never collected: the machine remembers one bit.

/// What the server sends on accept, before it handles any input.
pub const GREETING: &[u8] = b"*";

/// The protocol's Mealy machine, for one connection.
///
/// It keeps its state from call to call, so how the input was segmented on its way never shows in
/// the replies:
///
/// ```
/// use ringlab::framing::Framer;
///
/// let mut framer = Framer::new();
/// let mut replies = Vec::new();
/// for received in ["^ab", "c$de^", "abte$f"] {
///     let mut buf = received.as_bytes().to_vec();
///     let reply = framer.feed(&mut buf);
///     replies.extend_from_slice(&buf[..reply]);
/// }
/// assert_eq!(replies, b"bcdbcuf");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Framer {
    state: State,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    WaitForMessage,
    InMessage,
}

impl Framer {
    /// A machine that has seen no input yet.
    pub const fn new() -> Self {
        Self {
            state: State::WaitForMessage,
        }
    }

    /// Consumes `buf`, writes the reply in place at its front, returns the reply's length in bytes.
    ///
    /// A reply is never longer than the input that caused it, so the buffer that a read filled is
    /// the buffer that the next write sends. What lies behind the reply is unspecified.
    pub fn feed(&mut self, buf: &mut [u8]) -> usize {
        let mut replied = 0;
        for at in 0..buf.len() {
            match (self.state, buf[at]) {
                (State::WaitForMessage, b'^') => self.state = State::InMessage,
                (State::WaitForMessage, _) => {}
                (State::InMessage, b'$') => self.state = State::WaitForMessage,
                (State::InMessage, byte) => {
                    buf[replied] = byte.wrapping_add(1);
                    replied += 1;
                }
            }
        }
        replied
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Replies to `segments`, fed one after the other to one machine.
    fn replies<'a>(segments: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut framer = Framer::new();
        let mut all = Vec::new();
        for segment in segments {
            let mut buf = segment.to_vec();
            let replied = framer.feed(&mut buf);
            all.extend_from_slice(&buf[..replied]);
        }
        all
    }

    /// The table of the module documentation, written a second time without state or buffers in
    /// common with `feed`: split at delimiters, keep what is inside.
    fn by_splitting(mut input: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(start) = input.iter().position(|&b| b == b'^') {
            let message = &input[start + 1..];
            let end = message
                .iter()
                .position(|&b| b == b'$')
                .unwrap_or(message.len());
            all.extend(message[..end].iter().map(|b| b.wrapping_add(1)));
            input = message.get(end + 1..).unwrap_or_default();
        }
        all
    }

    /// Bytes in which the delimiters are as frequent as everything else together.
    fn soup() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(
            prop_oneof![Just(b'^'), Just(b'$'), any::<u8>(), any::<u8>()],
            0..600,
        )
    }

    #[test]
    fn the_tutorials_conversation_is_answered_as_it_documents() {
        let sent: [&[u8]; 3] = [b"^abc$de^abte$f", b"xyz^123", b"25$^ab0000$abab"];
        assert_eq!(replies(sent), b"bcdbcuf23436bc1111");
    }

    #[test]
    fn every_byte_value_inside_a_message_comes_back_incremented() {
        for byte in (0..=255).filter(|&b| b != b'$') {
            assert_eq!(replies([&[b'^', byte][..]]), [byte.wrapping_add(1)]);
        }
    }

    #[test]
    fn byte_255_wraps_to_0() {
        assert_eq!(replies([&b"^\xFF$"[..]]), [0]);
    }

    #[test]
    fn an_opening_delimiter_inside_a_message_is_data() {
        assert_eq!(replies([&b"^^^$"[..]]), b"__");
    }

    #[test]
    fn bytes_outside_messages_are_not_answered() {
        let outside: Vec<u8> = (0..=255).filter(|&b| b != b'^').collect();
        assert_eq!(replies([&outside[..]]), b"");
    }

    #[test]
    fn an_empty_input_changes_nothing() {
        let mut framer = Framer::new();
        framer.feed(&mut b"^".to_vec());
        let before = framer.clone();
        assert_eq!(framer.feed(&mut []), 0);
        assert_eq!(framer, before);
    }

    proptest! {
        #[test]
        fn replies_are_what_splitting_at_the_delimiters_gives(input in soup()) {
            prop_assert_eq!(replies([&input[..]]), by_splitting(&input));
        }

        #[test]
        fn any_segmentation_gives_the_same_replies_as_one_piece(
            input in soup(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
            cuts.extend([0, input.len()]);
            cuts.sort_unstable();
            let segments = cuts.windows(2).map(|ends| &input[ends[0]..ends[1]]);
            prop_assert_eq!(replies(segments), replies([&input[..]]));
        }

        #[test]
        fn a_reply_is_never_longer_than_its_input(input in soup(), in_message: bool) {
            let mut framer = Framer::new();
            if in_message {
                framer.feed(&mut b"^".to_vec());
            }
            let mut buf = input.clone();
            prop_assert!(framer.feed(&mut buf) <= input.len());
        }
    }
}
