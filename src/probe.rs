//! What this machine allows, found by trying: `ringlab probe`.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::thread;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit};
use rustix::system::uname;
use serde_json::{Map, Value, json};

use crate::diagnosis::{self, Unavailable};
use crate::engine::{Engine, uring};
use crate::features::{Choice, Feature, Features};

/// The width that the report is wrapped to, in columns.
const WIDTH: usize = 80;

/// A machine, as far as it matters to a server on io_uring.
#[derive(Debug)]
pub struct Report {
    /// The kernel's release, as `uname -r` prints it.
    pub release: String,
    /// The architecture, as `uname -m` prints it.
    pub machine: String,
    /// The processor's name; empty where the kernel does not tell.
    pub processor: String,
    /// Processors that this process may use.
    pub processors: usize,
    /// What the kernel does about each of the processor's vulnerabilities that concerns it.
    pub mitigations: BTreeMap<String, String>,
    /// The limit on descriptors (RLIMIT_NOFILE).
    pub descriptors: Rlimit,
    /// The limit on locked memory in bytes (RLIMIT_MEMLOCK), against which rings count before
    /// Linux 5.12 and on recent kernels (seen on 6.18), unless the process may exceed it
    /// (CAP_IPC_LOCK).
    pub locked_memory: Rlimit,
    /// The value of `kernel.io_uring_disabled`, where the kernel has it (Linux 6.6).
    pub io_uring_disabled: Option<String>,
    /// Whether io_uring can be used at all.
    pub io_uring: Result<(), Unavailable>,
    /// Each feature of [`Feature::ALL`].
    pub features: Vec<(Feature, Status)>,
    /// Each engine of [`Engine::ALL`].
    pub engines: Vec<(Engine, Result<(), Unavailable>)>,
}

/// Whether a feature of io_uring can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It works.
    Available,
    /// The kernel does not know it.
    Missing,
    /// The kernel may know it, but something forbids its use.
    SwitchedOff(String),
}

impl Report {
    /// Tries everything, which takes some milliseconds.
    pub fn gather() -> Self {
        let uname = uname();
        let io_uring = Engine::Uring.availability();
        let features = Feature::ALL.into_iter().map(|feature| {
            let status = match &io_uring {
                Ok(()) => Status::of(feature),
                Err(unavailable) => Status::SwitchedOff(unavailable.cause.clone()),
            };
            (feature, status)
        });
        Self {
            release: uname.release().to_string_lossy().into_owned(),
            machine: uname.machine().to_string_lossy().into_owned(),
            processor: processor(),
            processors: thread::available_parallelism().map_or(1, NonZeroUsize::get),
            mitigations: mitigations(),
            descriptors: getrlimit(Resource::Nofile),
            locked_memory: getrlimit(Resource::Memlock),
            io_uring_disabled: diagnosis::disabled(),
            features: features.collect(),
            engines: Engine::ALL
                .into_iter()
                .map(|engine| (engine, engine.availability()))
                .collect(),
            io_uring,
        }
    }

    /// The features that can be had here.
    pub fn available(&self) -> Features {
        let features = self.features.iter();
        let available = features.filter(|(_, status)| *status == Status::Available);
        available.map(|&(feature, _)| feature).collect()
    }

    /// What the engine `uring` uses here unless told otherwise.
    pub fn auto(&self) -> Features {
        Choice::AUTO.resolve(self.available()).unwrap_or_default()
    }

    /// The report for scripts.
    ///
    /// | key | value |
    /// | --- | --- |
    /// | `kernel` | `release`, `machine` |
    /// | `processor` | `model`, `count`, `mitigations`: the kernel's words by vulnerability |
    /// | `limits` | `descriptors`, `locked_memory_bytes`: each `soft` and `hard`, `null` for none |
    /// | `io_uring` | `available`; `disabled`: the sysctl or `null`; `cause` and `remedy` |
    /// | `features` | by name: `status` (`available`, `missing`, `switched off`), `since` (a Linux release), `auto` (used by default here), `cause` |
    /// | `engines` | by name: `runs`, `cause`, `remedy` |
    ///
    /// `cause` and `remedy` are there where something is not available.
    pub fn to_json(&self) -> Value {
        let auto = self.auto();
        let features = self.features.iter().map(|(feature, status)| {
            let mut value = json!({
                "status": status.name(),
                "since": feature.since(),
                "auto": auto.has(*feature),
            });
            if let Status::SwitchedOff(cause) = status {
                value["cause"] = json!(cause);
            }
            (feature.name().to_owned(), value)
        });
        let engines = self.engines.iter().map(|(engine, availability)| {
            let value = with_explanation(json!({ "runs": availability.is_ok() }), availability);
            (engine.name().to_owned(), value)
        });
        json!({
            "kernel": { "release": self.release, "machine": self.machine },
            "processor": {
                "model": self.processor,
                "count": self.processors,
                "mitigations": self.mitigations,
            },
            "limits": {
                "descriptors": limit_to_json(&self.descriptors),
                "locked_memory_bytes": limit_to_json(&self.locked_memory),
            },
            "io_uring": with_explanation(
                json!({
                    "available": self.io_uring.is_ok(),
                    "disabled": self.io_uring_disabled.as_ref().and_then(|text| text.parse::<u8>().ok()),
                }),
                &self.io_uring,
            ),
            "features": features.collect::<Map<_, _>>(),
            "engines": engines.collect::<Map<_, _>>(),
        })
    }
}

fn with_explanation(mut value: Value, availability: &Result<(), Unavailable>) -> Value {
    if let Err(Unavailable { cause, remedy }) = availability {
        value["cause"] = json!(cause);
        value["remedy"] = json!(remedy);
    }
    value
}

fn limit_to_json(limit: &Rlimit) -> Value {
    json!({ "soft": limit.current, "hard": limit.maximum })
}

impl Status {
    /// Tries a feature on a machine where io_uring works.
    pub fn of(feature: Feature) -> Self {
        match uring::try_feature(feature) {
            Ok(()) => Self::Available,
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::INVAL | Errno::NOSYS) => Self::Missing,
                Some(Errno::OPNOTSUPP) => {
                    Self::SwitchedOff("this kernel was built without it".to_owned())
                }
                _ if error.kind() == io::ErrorKind::TimedOut => {
                    Self::SwitchedOff("it does not work on this kernel".to_owned())
                }
                _ => Self::SwitchedOff(format!("trying it fails: {error}")),
            },
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Missing => "missing",
            Self::SwitchedOff(_) => "switched off",
        }
    }
}

fn processor() -> String {
    fs::read_to_string("/proc/cpuinfo")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == "model name")
        .map(|(_, name)| name.trim().to_owned())
        .unwrap_or_default()
}

/// See `Documentation/admin-guide/hw-vuln/index.rst` of the kernel.
fn mitigations() -> BTreeMap<String, String> {
    let Ok(files) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else {
        return BTreeMap::new();
    };
    files
        .flatten()
        .filter_map(|file| {
            let state = fs::read_to_string(file.path()).ok()?.trim().to_owned();
            let name = file.file_name().to_string_lossy().into_owned();
            (state != "Not affected").then_some((name, state))
        })
        .collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            release, machine, ..
        } = self;
        entry(f, "kernel", &format!("{release} ({machine})"))?;
        let processor = format!("{} × {}", self.processors, self.processor);
        entry(f, "processors", processor.trim_end_matches(" × "))?;
        let mut label = "mitigations";
        for (name, state) in &self.mitigations {
            entry(f, label, &format!("{name}: {state}"))?;
            label = "";
        }
        entry(f, "descriptors", &show_limit(&self.descriptors))?;
        let memory = show_limit(&self.locked_memory);
        let note = "bytes; on some kernels rings count against it";
        entry(f, "locked memory", &format!("{memory} {note}"))?;
        let sysctl = match &self.io_uring_disabled {
            Some(value) => format!(" (kernel.io_uring_disabled={value})"),
            None => String::new(),
        };
        match &self.io_uring {
            Ok(()) => entry(f, "io_uring", &format!("works{sysctl}"))?,
            Err(unavailable) => {
                entry(f, "io_uring", &format!("cannot be used{sysctl}"))?;
                explain(f, unavailable)?;
            }
        }

        writeln!(
            f,
            "\nfeatures of io_uring (*: used by the engine uring by default)"
        )?;
        let auto = self.auto();
        for (feature, status) in &self.features {
            let mark = if auto.has(*feature) { " *" } else { "" };
            let since = feature.since();
            let text = match status {
                Status::Available => "available".to_owned(),
                Status::Missing => format!("missing: it exists since Linux {since}"),
                Status::SwitchedOff(_) if self.io_uring.is_err() => {
                    format!("not tried; it exists since Linux {since}")
                }
                Status::SwitchedOff(cause) => format!("switched off: {cause}"),
            };
            entry(f, &format!("  {feature}{mark}"), &text)?;
        }

        writeln!(f, "\nengines")?;
        for (engine, availability) in &self.engines {
            let runs = if availability.is_ok() {
                "runs here"
            } else {
                "does not run here"
            };
            entry(f, &format!("  {engine}"), runs)?;
            if let Err(unavailable) = availability {
                explain(f, unavailable)?;
            }
        }
        Ok(())
    }
}

fn show_limit(limit: &Rlimit) -> String {
    let show = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    let (soft, hard) = (show(limit.current), show(limit.maximum));
    if soft == hard {
        soft
    } else {
        format!("{soft}, at most {hard}")
    }
}

fn explain(f: &mut fmt::Formatter<'_>, unavailable: &Unavailable) -> fmt::Result {
    entry(f, "", &format!("cause: {}", unavailable.cause))?;
    entry(f, "", &format!("remedy: {}", unavailable.remedy))
}

/// Writes a label and, in a column of its own, the text.
fn entry(f: &mut fmt::Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    const COLUMN: usize = 24;
    write!(f, "{label:COLUMN$}")?;
    let mut column = COLUMN;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if column > COLUMN && column + 1 + width > WIDTH {
            write!(f, "\n{:COLUMN$}", "")?;
            column = COLUMN;
        }
        if column > COLUMN {
            f.write_char(' ')?;
            column += 1;
        }
        f.write_str(word)?;
        column += width;
    }
    writeln!(f)
}
