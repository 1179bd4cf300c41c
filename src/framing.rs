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
//!
//! There are several paths through the same machine, a file each: `framing/reference.rs` reads
//! like the table above, the others give the same replies faster, 64 bytes at a time where the
//! processor allows it. A [`Framer`] takes the best that runs here.

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector loads and stores through pointers")]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector loads and stores through pointers")]
mod avx512;
mod latch;
#[expect(unsafe_code, reason = "calls what needs features of the processor")]
mod path;
mod portable;
mod reference;

pub use path::Path;
use path::Runnable;

/// What the server sends on accept, before it handles any input.
pub const GREETING: &[u8] = b"*";

/// Opens a message.
const OPEN: u8 = b'^';

/// Closes a message.
const CLOSE: u8 = b'$';

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Framer {
    state: State,
    path: Runnable,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    WaitForMessage,
    InMessage,
}

impl Framer {
    /// A machine that has seen no input yet, on the best path that runs here.
    pub fn new() -> Self {
        Self {
            state: State::WaitForMessage,
            path: Runnable::best(),
        }
    }

    /// The same on a given path, for tests and benchmarks; `None` if that does not run here.
    pub fn with_path(path: Path) -> Option<Self> {
        Some(Self {
            state: State::WaitForMessage,
            path: path.runnable()?,
        })
    }

    /// Consumes `buf`, writes the reply in place at its front, returns the reply's length in bytes.
    ///
    /// A reply is never longer than the input that caused it, so the buffer that a read filled is
    /// the buffer that the next write sends. What lies behind the reply is unspecified.
    pub fn feed(&mut self, buf: &mut [u8]) -> usize {
        let (replied, state) = self.path.feed(buf, self.state);
        debug_assert!(replied <= buf.len());
        self.state = state;
        replied
    }
}

impl Default for Framer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Machines on every path that this processor can run.
    fn framers() -> impl Iterator<Item = Framer> {
        Path::ALL.iter().filter_map(|&path| Framer::with_path(path))
    }

    /// What `framer` replies to `segments`.
    fn replies_of<'a>(mut framer: Framer, segments: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut all = Vec::new();
        for segment in segments {
            let mut buf = segment.to_vec();
            let replied = framer.feed(&mut buf);
            all.extend_from_slice(&buf[..replied]);
        }
        all
    }

    /// What the reference replies to `segments`, fed one after the other to one machine.
    fn replies<'a>(segments: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let reference = Framer::with_path(Path::Reference).expect("runs everywhere");
        replies_of(reference, segments)
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
        for mut framer in framers() {
            framer.feed(&mut b"^".to_vec());
            let before = framer.clone();
            assert_eq!(framer.feed(&mut []), 0);
            assert_eq!(framer, before);
        }
    }

    /// Input of `length` bytes at `offset` from an address that is aligned for any vector, with
    /// guards around it: nothing but the input may change.
    fn feed_at(framer: &mut Framer, input: &[u8], offset: usize) -> Vec<u8> {
        #[repr(align(64))]
        struct Aligned([u8; 64 + 300 + 64]);
        let mut memory = Aligned([0xA5; 64 + 300 + 64]);
        let end = offset + input.len();
        memory.0[offset..end].copy_from_slice(input);
        let replied = framer.feed(&mut memory.0[offset..end]);
        assert!(
            memory.0[..offset].iter().all(|&byte| byte == 0xA5),
            "wrote before the buffer"
        );
        assert!(
            memory.0[end..].iter().all(|&byte| byte == 0xA5),
            "wrote behind the buffer"
        );
        memory.0[offset..offset + replied].to_vec()
    }

    #[test]
    fn every_length_at_every_alignment_gives_what_the_reference_gives() {
        // Delimiters that meet each other and the ends of vectors in all ways; and so few of them
        // that the shortcuts for blocks without one are taken.
        let dense = |at: usize| match (at as u32).wrapping_mul(2_654_435_761) >> 24 {
            0..24 => b'^',
            24..48 => b'$',
            other => other as u8,
        };
        let sparse = |at: usize| match at % 470 {
            0 => b'^',
            290 => b'$',
            other => other as u8 | 0x80,
        };
        let sources: [Vec<u8>; 2] = [
            (0..1000).map(dense).collect(),
            (0..1000).map(sparse).collect(),
        ];
        for (framer, source) in framers().flat_map(|f| sources.iter().map(move |s| (f.clone(), s)))
        {
            for length in 0..=300 {
                for offset in 0..64 {
                    let input = &source[length + offset..][..length];
                    for opened in [&b""[..], b"^"] {
                        let mut framer = framer.clone();
                        framer.feed(&mut opened.to_vec());
                        let mut reference = Framer::with_path(Path::Reference).unwrap();
                        reference.feed(&mut opened.to_vec());
                        let reply = feed_at(&mut framer, input, offset);
                        assert_eq!(reply, feed_at(&mut reference, input, 0), "{framer:?}");
                        assert_eq!(framer.state, reference.state, "{framer:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_new_framer_takes_the_last_path_that_runs_here() {
        let last = framers().last().expect("the portable path runs everywhere");
        assert_eq!(Framer::new(), last);
        assert_ne!(Some(last), Framer::with_path(Path::Reference));
    }

    proptest! {
        #[test]
        fn replies_are_what_splitting_at_the_delimiters_gives(input in soup()) {
            for framer in framers() {
                prop_assert_eq!(replies_of(framer, [&input[..]]), by_splitting(&input));
            }
        }

        #[test]
        fn any_segmentation_gives_the_same_replies_as_one_piece(
            input in soup(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
            cuts.extend([0, input.len()]);
            cuts.sort_unstable();
            let whole = replies([&input[..]]);
            for framer in framers() {
                let segments = cuts.windows(2).map(|ends| &input[ends[0]..ends[1]]);
                prop_assert_eq!(replies_of(framer, segments), &whole[..]);
            }
        }

        #[test]
        fn a_reply_is_never_longer_than_its_input(input in soup(), in_message: bool) {
            for mut framer in framers() {
                if in_message {
                    framer.feed(&mut b"^".to_vec());
                }
                let mut buf = input.clone();
                prop_assert!(framer.feed(&mut buf) <= input.len());
            }
        }
    }
}
