//! The command line: parsed here, then lifted into what the commands themselves understand.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, LevelFilter};

use crate::address::Address;
use crate::client;
use crate::engine::Engine;
use crate::features::Choice;
use crate::log::{self, Format, Log};
use crate::probe::Report;
use crate::server::{self, Config};

/// A TCP server on io_uring, beside the classic concurrency models it is measured against
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the `^…$` increment protocol
    Serve(Serve),
    /// Hold the tutorial's conversation with a server, and check its replies
    Client(Client),
    /// Show what this machine allows: the features of io_uring, and the engines that run here
    Probe(Probe),
}

#[derive(Debug, Args)]
struct Serve {
    /// How to serve
    #[arg(long, value_enum, default_value_t = Engine::TokioUring)]
    engine: Engine,

    /// Where to listen: `ADDRESS:PORT` (port 0 picks one), `NAME:PORT`, `[IPV6]:PORT`, or
    /// `unix:PATH` [default: the socket that a service manager passed, else 127.0.0.1:9090]
    #[arg(long, value_name = "ENDPOINT")]
    listen: Option<Address>,

    /// Who may connect to a Unix socket: its file's mode, in octal
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = unix_mode)]
    unix_mode: u32,

    /// Threads, each with its own ring or loop [default: the processors available]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,

    /// Connections served at once; more wait in the listen backlog [default: what the descriptor
    /// limit allows, at most 65536]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_048_576))]
    max_connections: Option<u32>,

    /// Close a connection on which nothing has moved for this long; 0 for never
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = idle_timeout)]
    idle_timeout: Duration,

    /// How long open connections may go on after SIGTERM or SIGINT
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    drain_timeout: Duration,

    /// What the engine uring uses of io_uring: `auto`, or a comma list in which `-name` switches a
    /// feature off, `+name` asks for one, and `none` in front starts from nothing; see `ringlab
    /// probe` for the names
    #[arg(
        long,
        value_name = "LIST",
        default_value = "auto",
        allow_hyphen_values = true
    )]
    uring_features: Choice,

    /// Submissions that the engine uring's ring has room for
    #[arg(long, value_name = "N", default_value_t = 256,
        value_parser = value_parser!(u32).range(1..=8192))]
    uring_entries: u32,

    /// Serve metrics for Prometheus here, over HTTP at /metrics: `ADDRESS:PORT` (port 0 picks
    /// one), `NAME:PORT` or `[IPV6]:PORT` [default: do not]
    #[cfg(feature = "metrics")]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = tcp_address)]
    metrics: Option<Address>,

    #[command(flatten)]
    log: LogOptions,
}

#[derive(Debug, Args)]
struct LogOptions {
    /// How log lines look; they go to stderr
    #[arg(long, value_enum, default_value_t = Format::Text)]
    log_format: Format,

    /// Log more: -v for failed connections, -vv for everything (RUST_LOG is finer)
    #[arg(short, action = clap::ArgAction::Count)]
    verbose: u8,

    /// Log errors only
    #[arg(short, conflicts_with = "verbose")]
    quiet: bool,
}

#[derive(Debug, Args)]
struct Client {
    /// The server's name or address
    host: String,
    /// The server's port
    port: u16,
    /// Connections at once
    #[arg(short = 'n', value_name = "N", default_value = "1",
        value_parser = value_parser!(u16).range(1..))]
    connections: u16,
}

#[derive(Debug, Args)]
struct Probe {
    /// How to show it
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    format: ReportFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ReportFormat {
    /// For people
    Text,
    /// For scripts
    Json,
}

/// Parses a command line, the program's name first, does what it says, and tells on stderr what
/// kept it from that. Returns the exit code; wrong usage exits the process with code 2.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<_> = arguments.collect();
    let command = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli.command,
        Err(error) if error.use_stderr() && wants_json(&arguments) => {
            log::fail(Format::Json, error.render().to_string().trim_end());
            return ExitCode::from(WRONG_USAGE);
        }
        Err(error) => error.exit(),
    };
    let result = match command {
        Command::Serve(serve) => return serve.run(),
        Command::Client(Client {
            host,
            port,
            connections,
        }) => client::run(&Address::of(&host, port), connections.into()),
        Command::Probe(Probe { format }) => show(&Report::gather(), format),
    };
    if let Err(error) = &result {
        log::fail(Format::Text, &format!("{error:#}"));
    }
    exit_code(&result)
}

/// What the shell's own commands return for it, and clap.
const WRONG_USAGE: u8 = 2;

fn exit_code(result: &Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Whether arguments that cannot be understood ask for a log of JSON nevertheless: whoever reads
/// the log understands nothing else.
fn wants_json(arguments: &[OsString]) -> bool {
    let pairs = arguments.iter().zip(arguments.iter().skip(1));
    pairs
        .into_iter()
        .any(|(option, value)| option == "--log-format" && value == "json")
        || arguments.iter().any(|option| option == "--log-format=json")
}

fn show(report: &Report, format: ReportFormat) -> Result<()> {
    let text = match format {
        ReportFormat::Text => report.to_string(),
        ReportFormat::Json => format!("{:#}\n", report.to_json()),
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write the report"),
    }
}

impl Serve {
    fn run(self) -> ExitCode {
        let format = self.log.log_format;
        let log = match self.log.start() {
            Ok(log) => log,
            Err(error) => {
                log::fail(
                    format,
                    &format!("cannot start a thread for the log: {error}"),
                );
                return ExitCode::FAILURE;
            }
        };
        let result = server::serve(&self.into_config(), &mut io::stdout());
        if let Err(error) = &result {
            log.fail(&format!("{error:#}"));
        }
        exit_code(&result)
    }

    fn into_config(self) -> Config {
        let processors = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Config {
            engine: self.engine,
            listen: self.listen,
            unix_mode: self.unix_mode,
            workers: self.workers.map_or_else(processors, usize::from),
            max_connections: self.max_connections.map(|most| most as usize),
            idle_timeout: Some(self.idle_timeout).filter(|timeout| !timeout.is_zero()),
            drain_timeout: self.drain_timeout,
            uring_features: self.uring_features,
            uring_entries: self.uring_entries,
            #[cfg(feature = "metrics")]
            metrics: self.metrics,
        }
    }
}

impl LogOptions {
    fn start(&self) -> io::Result<Log> {
        let level = match (self.quiet, self.verbose) {
            (true, _) => LevelFilter::ERROR,
            (_, 0) => LevelFilter::INFO,
            (_, 1) => LevelFilter::DEBUG,
            (_, _) => LevelFilter::TRACE,
        };
        let asked = self.quiet || self.verbose > 0;
        let finer = if asked { None } else { env::var_os("RUST_LOG") };
        let (directives, refused) = directives(&finer.unwrap_or_default());
        let filter = EnvFilter::builder()
            .with_default_directive(level.into())
            // Which tells with eprintln what it refuses: nothing that has been read already.
            .parse_lossy(directives);
        let log = Log::start(self.log_format, filter)?;
        for refusal in refused {
            log.warn(&refusal);
        }
        Ok(log)
    }
}

/// The directives in RUST_LOG that can be understood, and what there is to say about the others.
fn directives(text: &OsStr) -> (String, Vec<String>) {
    let Some(text) = text.to_str() else {
        return (
            String::new(),
            vec!["ignoring RUST_LOG: it is not UTF-8".to_owned()],
        );
    };
    let (mut understood, mut refused) = (Vec::new(), Vec::new());
    for directive in text.split(',').filter(|directive| !directive.is_empty()) {
        match directive.parse::<Directive>() {
            Ok(_) => understood.push(directive),
            Err(error) => refused.push(format!("ignoring `{directive}` in RUST_LOG: {error}")),
        }
    }
    (understood.join(","), refused)
}

fn unix_mode(text: &str) -> Result<u32, String> {
    // A sign is a digit to nobody but `from_str_radix`.
    Some(text)
        .filter(|text| !text.starts_with('+'))
        .and_then(|text| u32::from_str_radix(text, 8).ok())
        .filter(|mode| (0..=0o777).contains(mode))
        .ok_or_else(|| "expected octal digits up to 0777, such as 0600 or 0660".to_owned())
}

#[cfg(feature = "metrics")]
fn tcp_address(text: &str) -> Result<Address, String> {
    let address: Option<Address> = text.parse().ok();
    address
        .filter(|address| !address.is_unix())
        .ok_or_else(|| "expected ADDRESS:PORT such as 127.0.0.1:9464, or [IPV6]:PORT".to_owned())
}

fn idle_timeout(text: &str) -> Result<Duration, String> {
    let timeout = duration(text)?;
    if !timeout.is_zero() && timeout < Duration::from_millis(1) {
        return Err("the shortest idle timeout is 1ms; 0 is for never".to_owned());
    }
    Ok(timeout)
}

/// A duration as people write it: `300ms`, `5s`, `5m`.
///
/// # Errors
///
/// When it is none; the text says how to write one.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write durations as 300ms, 5s or 5m"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::UNIX_MODE;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, milliseconds) in [("300ms", 300), ("5s", 5_000), ("5m", 300_000), ("0", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)));
        }
        for text in ["", "5", "fast", "-1s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_rust_log_has_is_taken_or_refused_piece_by_piece() {
        let (understood, refused) = directives(OsStr::new("info,ringlab=loud,,tokio=debug"));
        assert_eq!(understood, "info,tokio=debug");
        assert_eq!(refused.len(), 1);
        assert!(refused[0].contains("`ringlab=loud`"), "{refused:?}");
    }

    #[test]
    fn modes_are_read_as_chmod_reads_them() {
        for (text, mode) in [("0600", 0o600), ("660", 0o660), ("0", 0), ("0777", 0o777)] {
            assert_eq!(unix_mode(text), Ok(mode));
        }
        for text in ["", "0o600", "u=rw", "0800", "1777", "+600", "-1"] {
            assert!(unix_mode(text).is_err(), "{text}");
        }
        assert_eq!(unix_mode("0600"), Ok(UNIX_MODE));
    }

    #[test]
    fn idle_timeouts_are_never_or_at_least_a_millisecond() {
        assert_eq!(idle_timeout("0"), Ok(Duration::ZERO));
        assert_eq!(idle_timeout("1ms"), Ok(Duration::from_millis(1)));
        assert!(idle_timeout("999us").is_err());
    }
}
