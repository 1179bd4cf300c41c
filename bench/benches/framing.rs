//! The framer's paths over messages of every length and over adversarial input, in place in a
//! buffer as large as an engine's largest read, beside a copy of the same bytes.
//!
//! `cargo bench -p ringlab-bench --bench framing`, or with a part of a name behind `--` for those
//! that have it. The figures are input bytes per second.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringlab::buffer;
use ringlab::framing::{Framer, Path};
use ringlab_bench::inputs::{self, Input, MESSAGE_LENGTHS};

/// Feeding uses its input up, so each round has a buffer of its own. So many are made at a time,
/// outside the measured time: few enough to stay in the second-level cache, where what a read has
/// just filled would be.
const BUFFERS: u64 = 8;

fn framing(criterion: &mut Criterion) {
    let size = buffer::LARGEST;
    let mut all: Vec<Input> = MESSAGE_LENGTHS
        .iter()
        .map(|&length| inputs::messages(length, size))
        .collect();
    all.extend(inputs::adversarial(size));
    for input in all {
        let mut group = criterion.benchmark_group(&input.name);
        group
            .throughput(Throughput::Bytes(size as u64))
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_millis(800))
            .sample_size(20);
        // One buffer copied over another again and again: what memory gives a copy.
        let mut copy = input.bytes.clone();
        group.bench_function("memcpy", |bencher| {
            bencher.iter(|| black_box(&mut copy).copy_from_slice(black_box(&input.bytes)));
        });
        for &path in Path::ALL {
            let Some(framer) = Framer::with_path(path) else {
                continue;
            };
            group.bench_function(path.name(), |bencher| {
                bencher.iter_batched_ref(
                    || (framer.clone(), input.bytes.clone()),
                    |(framer, buf)| framer.feed(black_box(buf)),
                    BatchSize::NumIterations(BUFFERS),
                );
            });
        }
        group.finish();
    }
}

criterion_group!(benches, framing);
criterion_main!(benches);
