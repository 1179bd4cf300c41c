//! The command `ringlab`; see [`ringlab::cli`] for what it can be told.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use ringlab::cli;

fn main() -> ExitCode {
    match cli::run(env::args_os()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not eprintln, which panics when stderr is closed.
            let _ = writeln!(io::stderr(), "ringlab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
