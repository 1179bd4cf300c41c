//! What the commands share in reading their arguments.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Command};

/// Ends the process with code 2: the options of `command` do not go together.
pub(super) fn wrong_usage<Options: Args>(command: &str, message: impl std::fmt::Display) -> ! {
    Options::augment_args(
        Command::new("ringlab-bench").bin_name(format!("ringlab-bench {command}")),
    )
    .error(clap::error::ErrorKind::ArgumentConflict, message)
    .exit()
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = ringlab::cli::duration(text)?;
    match duration <= Duration::from_secs(7 * 24 * 3600) {
        true => Ok(duration),
        false => Err("a week is the longest".to_owned()),
    }
}

pub(super) fn rate(text: &str) -> Result<f64> {
    match text.parse() {
        Ok(rate) if (0.01..=1e8).contains(&rate) => Ok(rate),
        _ => bail!("expected requests per second, from 0.01 to 100000000"),
    }
}
