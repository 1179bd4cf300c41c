//! Whatever arguments, environment and files `ringlab-bench` is started with, it does not panic, and
//! it ends.
//!
//! It takes 5 seconds; `RINGLAB_FUZZ_SECONDS` sets another time, and `RINGLAB_FUZZ_SEED` the seed to
//! start with. A failure tells the command that repeats it.

#[path = "../../tests/fuzz/arguments.rs"]
mod arguments;
#[path = "../../tests/fuzz/settings.rs"]
mod settings;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use self::arguments::Program;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringlab-bench");

#[test]
fn no_argument_variable_or_file_makes_it_panic_or_hang() {
    let directory = tempfile::tempdir().expect("a directory for files");
    let program = Program::new(PROGRAM, samples(directory.path()));
    program.fuzz(Duration::from_secs(5));
}

/// A report and an interval log as the program writes them.
fn samples(directory: &Path) -> Vec<Vec<u8>> {
    let mut server = Command::new(PROGRAM)
        .args("serve -q --engine threads --listen 127.0.0.1:0".split(' '))
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be started");
    let mut line = String::new();
    let stdout = server.stdout.take().expect("stdout is piped");
    let mut stdout = BufReader::new(stdout);
    stdout.read_line(&mut line).expect("it announces itself");
    let address = line.trim_start_matches("listening on ").trim_end();
    let compare = "compare --contender threads --contender epoll --rounds 2 --duration 20ms \
                   --json report";
    let load = format!("load --target {address} --requests 100 --interval-log log");
    for (arguments, file) in [(compare, "report"), (&load, "log")] {
        let output = Command::new(PROGRAM)
            .args(arguments.split_whitespace())
            .current_dir(directory)
            .output()
            .expect("it can be started");
        assert!(directory.join(file).exists(), "{output:?}");
    }
    server.kill().expect("it still runs");
    server.wait().expect("it can be waited for");
    ["report", "log"]
        .map(|file| fs::read(directory.join(file)).expect("just written"))
        .to_vec()
}
