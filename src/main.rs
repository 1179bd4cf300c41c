//! The command `ringlab`; see [`ringlab::cli`] for what it can be told.

use std::env;
use std::io::Write;
use std::process::ExitCode;

use ringlab::cli;
use ringlab::log::Stderr;

fn main() -> ExitCode {
    match cli::run(env::args_os()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not eprintln, which panics when stderr is closed and waits for whoever reads it.
            let _ = writeln!(Stderr::new(false), "ringlab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
