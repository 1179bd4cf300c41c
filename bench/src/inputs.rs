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

/// Messages of `length` bytes one after the other, `size` bytes in all.
pub fn messages(length: usize, size: usize) -> Input {
    let message = [&b"^"[..], &vec![b'm'; length], b"$"].concat();
    Input {
        name: format!("messages/{length}"),
        bytes: message.iter().copied().cycle().take(size).collect(),
    }
}

/// Streams in which delimiters are as frequent, or as hard to foresee, as can be, `size` bytes
/// each.
pub fn adversarial(size: usize) -> Vec<Input> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut input = |name: &str, mut byte: Box<dyn FnMut(usize, &mut fastrand::Rng) -> u8>| Input {
        name: format!("adversarial/{name}"),
        bytes: (0..size).map(|at| byte(at, &mut random)).collect(),
    };
    vec![
        input("all opening", Box::new(|_, _| b'^')),
        input("all closing", Box::new(|_, _| b'$')),
        input(
            "alternating",
            Box::new(|at, _| if at % 2 == 0 { b'^' } else { b'$' }),
        ),
        input("random bytes", Box::new(|_, random| random.u8(..))),
        input(
            "random delimiters",
            Box::new(|_, random| if random.bool() { b'^' } else { b'$' }),
        ),
        input(
            "delimiters in every third byte",
            Box::new(|_, random| match random.u8(0..6) {
                0 => b'^',
                1 => b'$',
                _ => b'm',
            }),
        ),
    ]
}
