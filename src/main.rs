//! The command `ringlab`; see [`ringlab::cli`] for what it can be told.

use std::process::ExitCode;

use ringlab::cli;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringlab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
