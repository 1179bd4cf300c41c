//! The command `ringlab`; see [`ringlab::cli`] for what it can be told.

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    ringlab::cli::run(env::args_os())
}
