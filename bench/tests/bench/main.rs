//! The command `ringlab-bench`, run as its users run it, against servers good and bad.
//!
//! libtest-mimic in place of the standard harness, so that a test that cannot run here shows as
//! ignored, with the reason; and so that this program can also be the bad servers.

mod compare;
mod faulty;
mod labour;
mod load;
mod odd;
mod page;
mod paths;
mod results;
mod support;

use std::env;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let words: Vec<_> = env::args().collect();
    if let [_, command, fault, port] = &words[..]
        && command == "faulty"
    {
        faulty::run(fault, port);
    }
    if let [_, command, port, helper @ ..] = &words[..]
        && command == "labour"
    {
        labour::run(port, helper.first().map(String::as_str));
    }
    let mut arguments = Arguments::from_args();
    // Those that interrupt, or wait for a stall, want a processor now and then.
    arguments.test_threads.get_or_insert(2);
    let trials = [
        load::trials(),
        odd::trials(),
        results::trials(),
        compare::trials(),
        paths::trials(),
        page::trials(),
    ];
    let trials = trials.into_iter().flatten().collect::<Vec<Trial>>();
    libtest_mimic::run(&arguments, trials).exit_code()
}
