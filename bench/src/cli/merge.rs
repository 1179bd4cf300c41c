//! `ringlab-bench merge`: what the interval logs of several machines say together.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::terminal::{Format, print};
use crate::load::interval_log::{self, Merged};
use crate::load::summary::{Latency, thousands};
use crate::output::{self, Output};

#[derive(Debug, Args)]
pub(super) struct Merge {
    /// Interval logs
    #[arg(value_name = "FILE", required = true)]
    logs: Vec<PathBuf>,

    /// Write the sum as a log of one interval
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// How to show the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Merge {
    pub(super) fn run(self) -> Result<ExitCode> {
        let output = self.output.as_deref().map(Output::new).transpose()?;
        let merged = Merged::read(&self.logs)?;
        let written = output.map_or(Ok(()), |output| {
            let (base, interval) = merged.as_interval();
            output.write(&interval_log::contents(base, &[interval])?)
        });
        let latency = Latency::of(&merged.latency);
        let (files, count) = (self.logs.len(), merged.latency.len());
        let printed = print(&match self.format {
            Format::Text => {
                let Merged {
                    intervals, length, ..
                } = merged;
                let latency = latency.map_or("none".to_owned(), |latency| latency.to_string());
                format!(
                    "intervals  {intervals} in {files} logs, {:.2} s from first to last\n\
                     requests   {}\nlatency    {latency}\n",
                    length.as_secs_f64(),
                    thousands(count as f64),
                )
            }
            Format::Json => {
                let value = serde_json::json!({
                    "logs": files,
                    "intervals": merged.intervals,
                    "seconds": merged.length.as_secs_f64(),
                    "requests": count,
                    "latency_us": latency,
                });
                format!("{value:#}\n")
            }
        });
        output::all([written, printed])?;
        Ok(ExitCode::SUCCESS)
    }
}
