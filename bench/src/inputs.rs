//! Input for the framer: messages of every length, and what is hardest on each of its paths.

/// A named stream of bytes.
#[derive(Debug, Clone)]
pub struct Input {
    /// As it appears in reports.
    pub name: String,
    /// What a client sends.
    pub bytes: Vec<u8>,
}

/// Lengths of messages, in bytes between the delimiters.
pub const MESSAGE_LENGTHS: [usize; 8] = [1, 8, 32, 64, 256, 1024, 4096, 65536];

/// Messages of `length` bytes one after the other, `size` bytes in all, from the middle of one on.
pub fn messages(length: usize, size: usize) -> Input {
    let message = [&b"^"[..], &vec![b'm'; length], b"$"].concat();
    Input {
        name: format!("messages/{length}"),
        bytes: message
            .iter()
            .copied()
            .cycle()
            .skip(length / 2)
            .take(size)
            .collect(),
    }
}

/// Streams in which delimiters are as frequent, or as hard to foresee, as can be, `size` bytes
/// each.
pub fn adversarial(size: usize) -> Vec<Input> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut up_to = move |most: u8| random.u8(0..=most);
    vec![
        stream("all opening", size, |_| b'^'),
        stream("all closing", size, |_| b'$'),
        stream("alternating", size, |at| [b'^', b'$'][at % 2]),
        stream("random bytes", size, |_| up_to(255)),
        stream("random delimiters", size, |_| {
            [b'^', b'$'][usize::from(up_to(1))]
        }),
        stream("a message in 64 bytes", size, |at| match at % 64 {
            31 => b'^',
            32 => b'$',
            _ => b'm',
        }),
        stream("a delimiter in three bytes", size, |_| match up_to(5) {
            0 => b'^',
            1 => b'$',
            _ => b'm',
        }),
    ]
}

fn stream(name: &str, size: usize, byte: impl FnMut(usize) -> u8) -> Input {
    Input {
        name: format!("adversarial/{name}"),
        bytes: (0..size).map(byte).collect(),
    }
}
