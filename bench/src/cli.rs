//! The command line: parsed here, then lifted into what the commands themselves understand.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Load for servers of ringlab's protocol, and their comparison
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve with one of ringlab's engines: the same as `ringlab serve`
    #[command(disable_help_flag = true)]
    Serve {
        /// See `ringlab serve --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Parses a command line, the program's name first, and does what it says. Wrong usage exits the
/// process with code 2.
///
/// # Errors
///
/// Whatever kept the command from doing it.
pub fn run(arguments: impl Iterator<Item = OsString>) -> Result<ExitCode> {
    match Cli::parse_from(arguments).command {
        Command::Serve { arguments } => {
            let ringlab = ["ringlab", "serve"].map(OsString::from);
            ringlab::cli::run(ringlab.into_iter().chain(arguments))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
