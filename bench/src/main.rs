//! The command `ringlab-bench`; see [`ringlab_bench::cli`] for what it can be told.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use ringlab_bench::cli;

fn main() -> ExitCode {
    match cli::run(env::args_os()) {
        Ok(code) => code,
        Err(error) => {
            // Not eprintln, which panics when stderr is closed.
            let _ = writeln!(io::stderr(), "ringlab-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
