//! The command line, a file for each command: parsed here, then lifted into what the commands
//! themselves understand.

mod arguments;
mod compare;
mod load;
mod merge;
mod signals;
mod terminal;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, value_parser};
use ringlab::endpoint::Endpoint;

use crate::host::keeper::{self, Premises};
use crate::peers::Peer;
use crate::report;
use compare::Compare;
use load::Load;
use merge::Merge;
use signals::outlive_failed_writes;
use terminal::print;

/// Load for servers of ringlab's protocol, and their comparison
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send load to a server, verify every byte of its replies, and tell how it did
    Load(Load),
    /// Let servers take turns at the same work, and tell which is faster, with error bars
    Compare(Compare),
    /// Add up the latencies in interval logs, such as several machines have written
    Merge(Merge),
    /// Show the JSON schema of the reports that `compare --json` writes
    Schema,
    /// Serve with one of ringlab's engines: the same as `ringlab serve`
    #[command(disable_help_flag = true)]
    Serve {
        /// See `ringlab serve --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Keep together, and end, what a contender starts
    #[command(hide = true)]
    Keep {
        /// A directory to make before, and to remove afterwards
        #[arg(long)]
        directory: Option<PathBuf>,

        /// A control group for its processes, likewise
        #[arg(long)]
        control_group: Option<PathBuf>,

        /// A program and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Serve on another runtime, to compare with
    Peer {
        /// The runtime
        peer: Peer,

        /// Where to listen: `ADDRESS:PORT` (port 0 picks one), `[IPV6]:PORT`, or `unix:PATH`
        #[arg(long, value_name = "ENDPOINT", default_value = "127.0.0.1:9090")]
        listen: Endpoint,

        /// Threads, each with a runtime of its own
        #[arg(long, value_name = "N", default_value_t = 1,
            value_parser = value_parser!(u16).range(1..=1024))]
        workers: u16,
    },
}

/// Parses a command line, the program's name first, and does what it says. Wrong usage exits the
/// process with code 2.
///
/// # Errors
///
/// Whatever kept the command from doing it.
pub fn run(arguments: impl Iterator<Item = OsString>) -> Result<ExitCode> {
    outlive_failed_writes()?;
    match Cli::parse_from(arguments).command {
        Command::Load(load) => load.run(),
        Command::Compare(compare) => compare.run(),
        Command::Merge(merge) => merge.run(),
        Command::Schema => {
            print(&report::schema())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Serve { arguments } => {
            let ringlab = ["ringlab", "serve"].map(OsString::from);
            Ok(ringlab::cli::run(ringlab.into_iter().chain(arguments)))
        }
        Command::Keep {
            directory,
            control_group,
            command,
        } => {
            let premises = Premises {
                directory,
                control_group,
            };
            keeper::keep(&premises, &command)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Peer {
            peer,
            listen,
            workers,
        } => {
            peer.serve(&listen, workers.into())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
