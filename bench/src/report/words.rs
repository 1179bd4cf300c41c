//! Ratios, verdicts and work in words.

use super::{Metric, Spread};
use crate::load::summary::digits;
use crate::report::environment::Environment;
use crate::statistics::{Estimate, Null, Verdict};

/// From this ratio on "so many times" is understood sooner than "so many per cent more".
const MULTIPLE: f64 = 2.0;

/// The fewest parts of a name, divided by commas, of which the middle ones are left out.
const PARTS: usize = 3;

/// Less than this, in per cent, is shown as nothing.
const NOTHING: f64 = 0.05;

/// Narrow, and no place for a line to break.
const SPACE: char = '\u{a0}';

/// The verdicts, the better first.
pub(super) const VERDICTS: [Verdict; 3] =
    [Verdict::Better, Verdict::Worse, Verdict::NoDifferenceShown];

/// What a side is.
pub(super) const SIDE: &str = "A side’s time is all that its processors did, whoever is charged \
     for it: the time that passed, less the time that they were idle, less what the idle look \
     before had found";

/// Why a closed loop has no latencies in a report.
pub(super) const NO_LATENCY: &str = "Closed loops with more than one request in flight show no \
     latency: there it is the number of requests in flight divided by the throughput, and says \
     nothing more";

/// A shape for each verdict, for those who do not see its colour.
pub(super) fn shape(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Better => "●",
        Verdict::Worse => "■",
        Verdict::NoDifferenceShown => "○",
    }
}

/// The style of a verdict.
pub(super) fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::NoDifferenceShown => "open",
    }
}

/// A ratio as a sentence has it: "6.5 % less time per request than epoll [5.4, 8.1 %]".
pub(super) fn difference(metric: Metric, ratio: &Estimate, baseline: &str) -> String {
    let interval = interval(ratio, direction(metric));
    let noun = metric.name();
    let median = ratio.median;
    if median >= MULTIPLE {
        return format!(
            "{}{SPACE}times the {noun} of {baseline} {interval}",
            times(median)
        );
    }
    let percent = percent(median);
    if percent.starts_with("0.0") {
        return format!("as much {noun} as {baseline} {interval}");
    }
    let way = way(median, direction(metric));
    format!("{percent} {way} {noun} than {baseline} {interval}")
}

/// A ratio's median in short: "6.5 % less", "2.9 times".
pub(super) fn amount(metric: Metric, ratio: f64) -> String {
    if ratio >= MULTIPLE {
        return format!("{}{SPACE}times", times(ratio));
    }
    let percent = percent(ratio);
    if percent.starts_with("0.0") {
        return "the same".to_owned();
    }
    format!("{percent} {}", way(ratio, direction(metric)))
}

/// The same in a cell of a table: "−6.5 %", "× 2.9".
pub(super) fn signed(ratio: f64) -> String {
    let percent = percent(ratio);
    match ratio {
        ratio if ratio >= MULTIPLE => format!("×{SPACE}{}", times(ratio)),
        _ if percent.starts_with("0.0") => percent,
        ratio if ratio < 1.0 => format!("−{percent}"),
        _ => format!("+{percent}"),
    }
}

/// The words for less and more.
fn direction(metric: Metric) -> [&'static str; 2] {
    match metric {
        Metric::P50 | Metric::P90 | Metric::P99 => ["lower", "higher"],
        _ => ["less", "more"],
    }
}

fn way(ratio: f64, [less, more]: [&'static str; 2]) -> &'static str {
    if ratio < 1.0 { less } else { more }
}

fn interval(ratio: &Estimate, direction: [&'static str; 2]) -> String {
    let Estimate { median, low, high } = *ratio;
    if median >= MULTIPLE {
        return format!("[{},{SPACE}{}]", times(low), times(high));
    }
    let ends = [percent(low), percent(high)];
    let [low_end, high_end] = &ends;
    if low < 1.0 && high > 1.0 {
        let [less, more] = direction;
        return format!("[{low_end} {less} to {high_end} {more}]");
    }
    // The smaller difference first; the sign of both once is enough.
    let [near, far] = if high <= 1.0 {
        [high_end, low_end]
    } else {
        [low_end, high_end]
    };
    let near = near.trim_end_matches(['%', SPACE]);
    format!("[{near},{SPACE}{far}]")
}

/// How far a ratio is from 1, without a sign.
pub(super) fn percent(ratio: f64) -> String {
    let percent = (ratio - 1.0).abs() * 100.0;
    let number = match percent {
        percent if percent < NOTHING => "0.0".to_owned(),
        percent => format!("{percent:.1}"),
    };
    format!("{number}{SPACE}%")
}

fn times(ratio: f64) -> String {
    match ratio {
        ratio if ratio < 9.95 => format!("{ratio:.1}"),
        ratio => format!("{ratio:.0}"),
    }
}

/// A ratio to three digits behind the point, or to three at all if it is large.
pub(super) fn ratio(ratio: f64) -> String {
    match ratio {
        ratio if ratio < MULTIPLE => format!("{ratio:.3}"),
        ratio => digits(ratio),
    }
}

/// A ratio's interval.
pub(super) fn bounds(estimate: &Estimate) -> String {
    format!("[{}, {}]", ratio(estimate.low), ratio(estimate.high))
}

/// A contender's name without the middle of a long list of features, which would hide its end.
pub(super) fn short(name: &str) -> String {
    let parts: Vec<_> = name.split(',').collect();
    match parts[..] {
        [first, .., last] if parts.len() >= PARTS => format!("{first},…,{last}"),
        _ => name.to_owned(),
    }
}

/// A sentence's beginning.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// A number of things.
pub(super) fn count(number: usize, thing: &str) -> String {
    match number {
        1 => format!("1{SPACE}{thing}"),
        number => format!("{number}{SPACE}{thing}s"),
    }
}

/// Names as a sentence lists them: "a, b and c".
pub(super) fn list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [name] => name.clone(),
        [names @ .., last] => format!("{} and {last}", names.join(", ")),
    }
}

/// A number and how far it varied, if that is more than a tenth of it.
pub(super) fn spread(spread: &Spread) -> String {
    /// More than this part of the median is told.
    const TOLD: f64 = 0.1;
    let Spread {
        median,
        least,
        most,
    } = *spread;
    match most - least > median * TOLD && digits(least) != digits(most) {
        true => format!("{} ({}–{})", digits(median), digits(least), digits(most)),
        false => digits(median),
    }
}

/// A number of pieces of work.
pub(super) fn pieces(number: usize) -> String {
    match number {
        1 => "1 piece of work".to_owned(),
        number => format!("{number} pieces of work"),
    }
}

/// What the null contender says.
pub(super) fn null(null: Null) -> &'static str {
    match null {
        Null::Equivalent => "equal within 3 %",
        Null::NotShown => "too noisy to tell",
        Null::Differs => "differs from itself",
    }
}

/// How long something took.
pub(super) fn duration(seconds: f64) -> String {
    const MINUTE: f64 = 60.0;
    const HOUR: f64 = 60.0 * MINUTE;
    match seconds {
        seconds if seconds < 2.0 * MINUTE => format!("{seconds:.0}{SPACE}s"),
        seconds if seconds < 2.0 * HOUR => format!("{:.0}{SPACE}min", seconds / MINUTE),
        seconds => format!("{:.1}{SPACE}h", seconds / HOUR),
    }
}

/// Where it was measured, in a line.
pub(super) fn machine(environment: &Environment) -> String {
    let virtual_machine = match environment.virtual_machine {
        true => " (virtual machine)",
        false => "",
    };
    format!(
        "Linux {}, {}{virtual_machine}; server on processor {}, client on {}",
        environment.kernel,
        environment.processor,
        environment.server_processors,
        environment.client_processors,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(median: f64, low: f64, high: f64) -> Estimate {
        Estimate { median, low, high }
    }

    fn plain(text: &str) -> String {
        text.replace(SPACE, " ")
    }

    #[test]
    fn differences_are_told_in_per_cent_the_smaller_first() {
        let text = |ratio| plain(&difference(Metric::ServerSide, &ratio, "epoll"));
        assert_eq!(
            text(of(0.935, 0.919, 0.956)),
            "6.5 % less processor time of the server’s side per request than epoll [4.4, 8.1 %]"
        );
        assert_eq!(
            text(of(1.652, 1.6, 1.7)),
            "65.2 % more processor time of the server’s side per request than epoll [60.0, 70.0 %]"
        );
        assert_eq!(
            text(of(0.998, 0.99, 1.006)),
            "0.2 % less processor time of the server’s side per request than epoll [1.0 % less to \
             0.6 % more]"
        );
        assert_eq!(
            text(of(1.0, 0.99, 1.006)),
            "as much processor time of the server’s side per request as epoll [1.0 % less to 0.6 % \
             more]"
        );
    }

    #[test]
    fn large_ratios_are_told_as_multiples() {
        let ratio = of(2.91, 2.74, 3.0);
        let text = plain(&difference(Metric::P99, &ratio, "epoll"));
        assert_eq!(text, "2.9 times the p99 latency of epoll [2.7, 3.0]");
        assert_eq!(plain(&signed(7.9)), "× 7.9");
        assert_eq!(plain(&signed(0.935)), "−6.5 %");
    }

    #[test]
    fn latencies_are_lower_or_higher() {
        let ratio = of(1.1, 1.05, 1.2);
        let text = plain(&difference(Metric::P50, &ratio, "epoll"));
        assert_eq!(
            text,
            "10.0 % higher median latency than epoll [5.0, 20.0 %]"
        );
    }

    #[test]
    fn the_middle_of_a_long_list_is_left_out() {
        assert_eq!(short("uring"), "uring");
        assert_eq!(short("uring:none,+a"), "uring:none,+a");
        assert_eq!(short("uring:none,+a,+b,+c"), "uring:none,…,+c");
    }
}
