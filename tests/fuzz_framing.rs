//! Every path of the framer against the reference, on inputs made from numbered seeds.
//!
//! Runs for a second; `RINGLAB_FUZZ_SECONDS` sets another time, and `RINGLAB_FUZZ_SEED` the seed to
//! start with. A failure names its seed, which alone reproduces it.

#[path = "fuzz/settings.rs"]
mod settings;

use std::time::{Duration, Instant};

use ringlab::framing::{Framer, Path};

/// A stream in stretches of different character, since each path has shortcuts for some: noise,
/// long runs without a delimiter, delimiters alone, one delimiter here and there.
fn stream(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..random.usize(1..12) {
        let length = match random.u8(0..4) {
            0 => random.usize(0..8),
            1 => random.usize(0..80),
            2 => random.usize(0..400),
            _ => 64 * random.usize(0..12) + random.usize(0..3),
        };
        let (opening, closing) = (random.u8(0..40), random.u8(0..40));
        let filler = random.u8(..);
        let character = random.u8(0..4);
        stream.extend((0..length).map(|_| match character {
            0 => filler,
            1 => *random.choice(b"^$").expect("two to choose from"),
            _ if random.u8(..) < opening => b'^',
            _ if random.u8(..) < closing => b'$',
            2 => random.u8(..),
            _ => filler,
        }));
    }
    stream
}

/// Feeds `stream` in random pieces to a machine on each path and compares after each piece.
fn compare(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut stream = stream(&mut random);
    let mut reference = Framer::with_path(Path::Reference).expect("runs everywhere");
    let mut framers: Vec<_> = Path::ALL
        .iter()
        .filter_map(|&path| Some((path, Framer::with_path(path)?)))
        .collect();
    // Ends with bytes that tell in which state they were met.
    stream.extend_from_slice(b"x$x^x");
    let mut rest = &stream[..];
    while !rest.is_empty() {
        let length = match random.u8(0..3) {
            0 => rest.len(),
            1 => random.usize(1..=rest.len()),
            _ => random.usize(1..=rest.len().min(70)),
        };
        let (piece, later) = rest.split_at(length);
        rest = later;

        let mut expected = piece.to_vec();
        let replied = reference.feed(&mut expected);
        for (path, framer) in &mut framers {
            // Anywhere in a larger buffer, of which nothing else may change.
            let (before, behind) = (random.usize(0..64), random.usize(0..64));
            let mut memory = vec![0xA5; before + length + behind];
            memory[before..before + length].copy_from_slice(piece);
            let count = framer.feed(&mut memory[before..before + length]);
            let name = path.name();
            assert_eq!(
                count, replied,
                "length of the reply, path {name}, seed {seed}"
            );
            assert!(
                memory[before..before + count] == expected[..replied],
                "the reply, path {name}, seed {seed}"
            );
            let outside = memory[..before].iter().chain(&memory[before + length..]);
            assert!(
                outside.copied().all(|byte| byte == 0xA5),
                "wrote outside the buffer, path {name}, seed {seed}"
            );
        }
    }
}

#[test]
fn every_path_gives_what_the_reference_gives() {
    let time = settings::time(Duration::from_secs(1));
    let first = settings::first_seed();
    let start = Instant::now();
    let mut seed = first;
    loop {
        compare(seed);
        seed += 1;
        if start.elapsed() >= time {
            break;
        }
    }
    let paths = Path::ALL.iter().filter(|path| path.is_available());
    let paths: Vec<_> = paths.map(|path| path.name()).collect();
    println!(
        "{} inputs from seed {first} on, paths {}",
        seed - first,
        paths.join(", ")
    );
}
