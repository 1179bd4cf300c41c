//! How good the comparison's method is: `cargo bench -p ringlab-bench --bench method` prints the
//! tables of bench/README.md, from simulated comparisons of which the truth is known. Every run
//! prints the same.

use std::thread;

use ringlab_bench::statistics::Null;
use ringlab_bench::statistics::simulation::candidates::Candidate;
use ringlab_bench::statistics::simulation::experiments::{self, Across};
use ringlab_bench::statistics::simulation::{Machine, Noise};

const DEVIATIONS: [f64; 4] = [0.02, 0.05, 0.10, 0.15];
const ROUNDS: [usize; 4] = [6, 8, 10, 16];

/// Makes a table of so many trials.
type Section = fn(usize) -> String;

/// A table of Markdown.
fn table(title: &str, heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: String| format!("| {cells} |\n");
    let rule = format!("| --- |{}\n", " ---: |".repeat(heads.len() - 1));
    let rows: String = rows.into_iter().map(|row| line(row.join(" | "))).collect();
    format!("{title}\n\n{}{rule}{rows}\n", line(heads.join(" | ")))
}

fn percent(share: f64) -> String {
    format!("{share:.1}")
}

fn whole(share: f64) -> String {
    format!("{share:.0}")
}

fn machine(noise: Noise, deviation: f64) -> Machine {
    Machine { noise, deviation }
}

fn choice(trials: usize) -> String {
    let noises = [Noise::Lognormal, Noise::HeavyTailed, Noise::Disturbed];
    let ways: Vec<_> = [false, true]
        .into_iter()
        .flat_map(|both| Candidate::ALL.map(|candidate| (candidate, both)))
        .collect();
    let row = |name: String, calls: &dyn Fn(Machine, usize, f64) -> f64| {
        let mut row = vec![name];
        for noise in noises {
            let machine = machine(noise, 0.05);
            let false_positives = [8, 16].map(|rounds| calls(machine, rounds, 1.0));
            row.extend(false_positives.map(percent));
            row.push(whole(calls(machine, 16, 1.05)));
        }
        row
    };
    let former = row(
        "before: median, bootstrap, to one run, the null's veto".to_owned(),
        &|machine, rounds, effect| experiments::former_calls(machine, rounds, effect, trials),
    );
    let rows = ways.into_iter().map(|(candidate, both)| {
        let to = if both { "both runs" } else { "one run" };
        row(
            format!("{}, to {to}", candidate.name()),
            &|machine, rounds, effect| {
                experiments::candidate_calls((candidate, both), machine, rounds, effect, trials)
            },
        )
    });
    table(
        "Choice of the interval. Noise of 5 % a run; false positives with 8 and 16 rounds, and how \
         often a true 5 % is found with 16, in %.",
        &[
            "interval",
            "lognormal: 8",
            "16",
            "found",
            "heavy tails: 8",
            "16",
            "found",
            "disturbed: 8",
            "16",
            "found",
        ],
        std::iter::once(former).chain(rows),
    )
}

fn coverage(trials: usize) -> String {
    let rows = Noise::BEARABLE
        .into_iter()
        .chain([Noise::Lasting])
        .map(|noise| {
            let of = |rounds| {
                let of =
                    |deviation| experiments::coverage(machine(noise, deviation), rounds, trials);
                percent(DEVIATIONS.map(of).into_iter().fold(f64::INFINITY, f64::min))
            };
            [noise.name().to_owned()]
                .into_iter()
                .chain(ROUNDS.map(of))
                .collect()
        });
    table(
        "Coverage of the interval, in % of the comparisons, the worst of noise of 2, 5, 10 and 15 % a \
         run. What is missing to 100 are false positives.",
        &["noise", "6 rounds", "8", "10", "16"],
        rows,
    )
}

fn power(trials: usize) -> String {
    let rows = Noise::BEARABLE.into_iter().flat_map(|noise| {
        DEVIATIONS.map(|deviation| {
            let mut row = vec![format!("{}, {:.0} %", noise.name(), deviation * 100.0)];
            for rounds in ROUNDS {
                let found = [1.03, 1.05, 1.10].map(|effect| {
                    whole(experiments::calls(
                        machine(noise, deviation),
                        rounds,
                        effect,
                        trials,
                    ))
                });
                row.push(found.join(" / "));
            }
            row
        })
    });
    table(
        "Power: how often a true difference of 3 / 5 / 10 % is called, in %.",
        &["noise of a run", "6 rounds", "8", "10", "16"],
        rows,
    )
}

fn nulls(trials: usize) -> String {
    let rows = DEVIATIONS.into_iter().chain([0.01]).map(|deviation| {
        let mut row = vec![format!("{:.0} %", deviation * 100.0)];
        for rounds in ROUNDS {
            let shares = [Null::Equivalent, Null::NotShown, Null::Differs].map(|null| {
                let machine = machine(Noise::Lognormal, deviation);
                experiments::nulls(machine, rounds, null, trials)
            });
            let shares = [whole(shares[0]), whole(shares[1]), percent(shares[2])];
            row.push(shares.join(" / "));
        }
        row
    });
    let mut rows: Vec<_> = rows.collect();
    rows.rotate_right(1);
    table(
        "The null contender of a quiet machine: equivalent / too noisy / differs, in %.",
        &["noise of a run", "6 rounds", "8", "10", "16"],
        rows,
    )
}

fn visible(trials: usize) -> String {
    let noises = [Noise::Lognormal, Noise::HeavyTailed, Noise::Disturbed];
    let rows = noises.into_iter().flat_map(|noise| {
        DEVIATIONS.map(|deviation| {
            let mut row = vec![format!("{}, {:.0} %", noise.name(), deviation * 100.0)];
            for rounds in ROUNDS {
                let (visible, found) =
                    experiments::visible(machine(noise, deviation), rounds, trials);
                row.push(format!("{:.1} % ({found:.0})", visible * 100.0));
            }
            row
        })
    });
    table(
        "What would have been seen: \"differences from x % on\", the median of what comparisons of \
         equals say, and in brackets how often a true difference of that size is called, in %.",
        &["noise of a run", "6 rounds", "8", "10", "16"],
        rows,
    )
}

fn dependence(trials: usize) -> String {
    let rounds = [6, 8, 10, 16, 32];
    let quiet = machine(Noise::Lognormal, 0.05);
    let row = |name: &str, of: &dyn Fn(usize) -> String| {
        let mut row = vec![name.to_owned()];
        row.extend(rounds.map(of));
        row
    };
    let alarms = |noise: Noise| {
        let name = format!("false alarms, {}", noise.name());
        row(&name, &|rounds| {
            percent(experiments::alarms(
                machine(noise, 0.05),
                rounds,
                0.0,
                trials,
            ))
        })
    };
    let found = |drift: f64| {
        row(&format!("drift of {drift} σ"), &|rounds| {
            whole(experiments::alarms(quiet, rounds, drift, trials))
        })
    };
    let needed = row("drift found in 90 %", &|rounds| {
        // By halves, to a tenth.
        let (mut missed, mut found) = (1.0, 20.0);
        while found - missed > 0.1 {
            let drift = f64::midpoint(missed, found);
            match experiments::alarms(quiet, rounds, drift, trials / 4 + 1) >= 90.0 {
                true => found = drift,
                false => missed = drift,
            }
        }
        format!("{found:.1} σ")
    });
    let lasting = row("lasting noise (a third kept)", &|rounds| {
        whole(experiments::alarms(
            machine(Noise::Lasting, 0.05),
            rounds,
            0.0,
            trials,
        ))
    });
    table(
        "Rounds that drift or depend on each other: how often that is said, in %. σ is the noise of \
         a ratio, the drift is linear and from the first round to the last.",
        &["ratio", "6 rounds", "8", "10", "16", "32"],
        Noise::BEARABLE
            .map(alarms)
            .into_iter()
            .chain([2.0, 3.0, 4.0, 5.0, 6.0].map(found))
            .chain([needed, lasting]),
    )
}

fn invocations(trials: usize) -> String {
    let quiet = machine(Noise::Lognormal, 0.05);
    let ways = [
        ("one invocation of 16 rounds", Across::One),
        ("all rounds as one's", Across::Pooled),
        ("DerSimonian-Laird", Across::DerSimonianLaird),
        ("Student's t", Across::Student),
    ];
    let rows = ways.into_iter().flat_map(|(name, across)| {
        let counts: &[usize] = if across == Across::One {
            &[1]
        } else {
            &[3, 5, 8]
        };
        counts.iter().map(move |&count| {
            let mut row = vec![format!("{name}, {count}")];
            row.extend([0.0, 0.01, 0.02, 0.04].map(|between| {
                percent(experiments::invocations_coverage(
                    across,
                    quiet,
                    between,
                    (16, count),
                    trials,
                ))
            }));
            row
        })
    });
    table(
        "Several invocations of 16 rounds with noise of 5 % a run, whose true ratios vary: coverage \
         in %.",
        &["interval, invocations", "vary by 0 %", "1 %", "2 %", "4 %"],
        rows,
    )
}

fn changes(trials: usize) -> String {
    let quiet = machine(Noise::Lognormal, 0.02);
    let mut rows = vec![vec!["1 and 1, by rounds alone (before)".to_owned()]];
    rows[0].extend([0.0, 0.01, 0.02, 0.04].map(|between| {
        format!(
            "{} / -",
            percent(experiments::former_changes(quiet, between, trials))
        )
    }));
    for counts in [(1, 3), (3, 3), (5, 5), (1, 8), (8, 8)] {
        let mut row = vec![format!("{} and {}", counts.0, counts.1)];
        row.extend([0.0, 0.01, 0.02, 0.04].map(|between| {
            let [none, some] = [1.0, 1.05]
                .map(|effect| experiments::changes(quiet, between, counts, effect, trials));
            format!("{none:.1} / {some:.0}")
        }));
        rows.push(row);
    }
    table(
        "A report against an earlier one, of 16 rounds with noise of 2 % a run: how often a change \
         is called where there is none / where there is one of 5 %, in %. One invocation each is \
         not judged.",
        &[
            "invocations now and then",
            "vary by 0 %",
            "1 %",
            "2 %",
            "4 %",
        ],
        rows,
    )
}

fn tails(trials: usize) -> String {
    let rows = [(2000, 0), (2000, 20), (20_000, 0), (20_000, 20)].map(|(requests, stalled)| {
        let stalls = match stalled {
            0 => "no stalls",
            _ => "stalls of 2 % in every fourth",
        };
        let mut row = vec![format!("{requests} requests a round, {stalls}")];
        for rounds in [8, 16] {
            row.extend([0.5, 0.9, 0.99].map(|quantile| {
                let (covered, reach) =
                    experiments::tails(quantile, rounds, (requests, stalled), trials);
                format!("{covered:.0}, ± {:.0} %", reach * 100.0)
            }));
        }
        row
    });
    table(
        "Percentiles of all rounds together, between equals: coverage in %, and how far the interval \
         reaches in the median.",
        &[
            "latencies",
            "8 rounds: p50",
            "p90",
            "p99",
            "16 rounds: p50",
            "p90",
            "p99",
        ],
        rows,
    )
}

fn search(trials: usize) -> String {
    let rows = [0.01, 0.03, 0.06, 0.1].map(|width| {
        let mut row = vec![format!("{:.0} %", 2.2 * width * 100.0)];
        for rounds in [6, 8, 12, 16] {
            let found = experiments::search(1.1, width, rounds, trials);
            row.push(format!(
                "{:.1}, ± {:.1} %, {:.0}, {:.1}",
                found.coverage,
                found.reach * 100.0,
                found.power,
                found.looks
            ));
        }
        row
    });
    table(
        "The highest rate that keeps a promise, of a contender that can do 1.1 times as much: coverage \
         in %, how far the interval reaches, how often the difference is called in %, looks a round.",
        &[
            "a look's chance falls from ¾ to ¼ within",
            "6 rounds",
            "8",
            "12",
            "16",
        ],
        rows,
    )
}

fn main() {
    // cargo passes `--bench`, and `cargo test --benches` nothing: then a few show that it runs.
    let trials = match std::env::args().any(|arg| arg == "--bench") {
        true => 4000,
        false => 10,
    };
    let sections: [(Section, usize); 10] = [
        (choice, trials),
        (coverage, trials),
        (power, trials),
        (nulls, trials),
        (visible, trials),
        (dependence, trials),
        (invocations, trials),
        (changes, trials),
        // A trial is hundreds of thousands of latencies.
        (tails, trials / 20 + 1),
        (search, trials),
    ];
    thread::scope(|scope| {
        let running = sections.map(|(section, trials)| scope.spawn(move || section(trials)));
        for section in running {
            print!("{}", section.join().expect("simulations do not panic"));
        }
    });
}
