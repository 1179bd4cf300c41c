//! How many times faster than the reference each of the framer's paths is, and how it compares
//! with a copy of as many bytes.
//!
//! `cargo bench -p ringlab-bench --bench framing_ratios` prints a table. Where `framing` measures
//! one path after the other, this one takes them in turn, round by round and every second round
//! backwards, and gives the median of the ratios within rounds with its 95 % interval, which holds
//! on machines whose speed changes from minute to minute.

use std::hint::black_box;
use std::time::Instant;

use ringlab::buffer;
use ringlab::framing::{Framer, Path};
use ringlab_bench::inputs::{self, MESSAGE_LENGTHS};

/// Odd, so that one of them is the median.
const ROUNDS: usize = 201;

/// Feeding uses its input up, so that many copies are made before the clock starts.
const BUFFERS: usize = 8;

/// What takes its turn in a round.
#[derive(Clone, Copy, PartialEq)]
enum Contender {
    Copy,
    Feed(Path),
}

impl Contender {
    /// Seconds for the bytes of all buffers.
    fn run(self, input: &[u8], buffers: &mut [Vec<u8>]) -> f64 {
        for buffer in &mut *buffers {
            buffer.copy_from_slice(input);
        }
        match self {
            // One buffer over another again and again: what memory gives a copy.
            Self::Copy => {
                let (to, from) = buffers.split_at_mut(1);
                let start = Instant::now();
                for _ in 0..BUFFERS {
                    black_box(&mut to[0]).copy_from_slice(black_box(&from[0]));
                }
                start.elapsed().as_secs_f64()
            }
            Self::Feed(path) => {
                let mut framer = Framer::with_path(path).expect("only available paths take part");
                let start = Instant::now();
                for buffer in &mut *buffers {
                    black_box(framer.feed(black_box(buffer)));
                }
                start.elapsed().as_secs_f64()
            }
        }
    }
}

/// The median of `values` and, by order statistics, the interval that has it with 95 % confidence.
fn median(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let (half, margin) = (
        values.len() as f64 / 2.0,
        0.98 * (values.len() as f64).sqrt(),
    );
    let low = values[(half - margin) as usize];
    let high = values[(half + margin) as usize];
    (values[values.len() / 2], low, high)
}

fn main() {
    // cargo passes `--bench`, and `cargo test --benches` nothing: then a few rounds show that it runs.
    let rounds = if std::env::args().any(|arg| arg == "--bench") {
        ROUNDS
    } else {
        9
    };
    let size = buffer::LARGEST;
    let paths = Path::ALL.iter().copied().filter(|path| path.is_available());
    let contenders: Vec<_> = [Contender::Copy]
        .into_iter()
        .chain(paths.map(Contender::Feed))
        .collect();

    let lengths = MESSAGE_LENGTHS
        .iter()
        .map(|&length| inputs::messages(length, size));
    for input in lengths.chain(inputs::adversarial(size)) {
        let mut buffers = vec![input.bytes.clone(); BUFFERS];
        let mut seconds = vec![Vec::with_capacity(rounds); contenders.len()];
        for round in 0..rounds {
            for turn in 0..contenders.len() {
                let turn = if round % 2 == 0 {
                    turn
                } else {
                    contenders.len() - 1 - turn
                };
                seconds[turn].push(contenders[turn].run(&input.bytes, &mut buffers));
            }
        }
        let bytes = (BUFFERS * size) as f64;
        let reference = Contender::Feed(Path::Reference);
        let reference = contenders
            .iter()
            .position(|&contender| contender == reference);
        let reference = &seconds[reference.expect("runs everywhere")];
        let ratios =
            |to: &[f64], of: &[f64]| median(to.iter().zip(of).map(|(to, of)| to / of).collect());
        println!("{}", input.name);
        for (contender, seconds_of) in contenders.iter().zip(&seconds) {
            let name = match contender {
                Contender::Copy => "memcpy",
                Contender::Feed(path) => path.name(),
            };
            let gigabytes = bytes / median(seconds_of.clone()).0 / 1e9;
            let (ratio, low, high) = ratios(reference, seconds_of);
            let of_copy = ratios(&seconds[0], seconds_of).0;
            println!(
                "  {name:<10} {gigabytes:>6.2} GB/s  {ratio:>6.2} x reference [{low:.2}, {high:.2}]  \
                 {of_copy:>5.2} x memcpy"
            );
        }
    }
}
