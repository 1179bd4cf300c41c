//! Where something was measured: what a reader must know to believe it, or to find it differs.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use ringlab::probe::Report as Probe;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::processors::Processors;

/// The lock file that this program was built from.
const LOCK: &str = include_str!("../../../Cargo.lock");

/// How long to look whether anything else is running.
const LOOK: Duration = Duration::from_millis(300);

/// How long before: a ring's polling thread, such as the trial of features has just started one,
/// goes on for a tenth of a second after its ring has gone.
const SETTLING: Duration = Duration::from_millis(150);

/// The part of the processors' time that a quiet machine may use.
const QUIET: f64 = 0.1;

/// The libraries whose versions matter to a comparison.
const LIBRARIES: [&str; 6] = [
    "compio",
    "io-uring",
    "monoio",
    "ringlab",
    "tokio",
    "tokio-uring",
];

/// A machine, and the programs on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: String,
    /// The architecture, as `uname -m` prints it.
    pub machine: String,
    /// The processor's name.
    pub processor: String,
    /// Processors that the program may use.
    pub processors: usize,
    /// Whether it runs on a virtual machine, as far as the processor tells.
    pub virtual_machine: bool,
    /// What the kernel does about the processor's vulnerabilities, by name.
    pub mitigations: BTreeMap<String, String>,
    /// How the kernel sets the processor's frequency; `None` if it does not.
    pub governor: Option<String>,
    /// How TCP avoids congestion on the server's side (`net.ipv4.tcp_congestion_control`); it costs
    /// processor time even where there is nothing to avoid.
    pub congestion_control: Option<String>,
    /// The features of io_uring that the engine `uring` uses by default.
    pub ring_features: String,
    /// Versions of what matters.
    pub versions: BTreeMap<String, String>,
    /// Where servers ran.
    pub server_processors: String,
    /// Where the client ran.
    pub client_processors: String,
    /// Where the idle time of processors was read, which says what the sides did; `None` if server
    /// and client share a processor, and have no sides.
    pub idle_clock: Option<String>,
    /// The system's load before it began, over the last minute.
    pub load_average: Option<f64>,
    /// What makes the measurement less trustworthy, in words.
    pub warnings: Vec<String>,
}

impl Environment {
    /// What `probe` found and what else there is to see; what is odd becomes a warning.
    pub fn new(probe: Probe, server: &Processors, client: &Processors) -> Self {
        let mut environment = Self {
            ring_features: probe.auto().to_string(),
            kernel: probe.release,
            machine: probe.machine,
            processor: probe.processor,
            processors: probe.processors,
            virtual_machine: has_processor_flag("hypervisor"),
            mitigations: probe.mitigations,
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control"),
            versions: versions(),
            server_processors: server.to_string(),
            client_processors: client.to_string(),
            idle_clock: None,
            load_average: load_average(),
            warnings: Vec::new(),
        };
        environment.warnings = environment.warn(server, client);
        environment
    }

    fn warn(&self, server: &Processors, client: &Processors) -> Vec<String> {
        let mut warnings = Vec::new();
        if server.overlap(client) {
            warnings.push(
                "too few processors: server and client share one, and disturb each other"
                    .to_owned(),
            );
        } else if server.share_a_core_with(client) {
            warnings.push(format!(
                "processors {server} (server) and {client} (client) are threads of the same core"
            ));
        }
        if let Some(governor) = &self.governor
            && governor != "performance"
        {
            warnings.push(format!(
                "the frequency governor is {governor}: speed depends on what came before"
            ));
        }
        // The load average would still be that of whatever ran a minute ago.
        if let Some(busy) = busy_now().filter(|&busy| busy > QUIET) {
            warnings.push(format!(
                "something else is running: the processors are {:.0} % busy before anything is \
                 measured",
                busy * 100.0
            ));
        }
        if cfg!(debug_assertions) {
            warnings.push("this is a debug build: measure with `cargo run --release`".to_owned());
        }
        warnings
    }

    /// What differs in another environment and may explain a difference in figures, in words.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        let pairs = [
            ("kernel", self.kernel.clone(), other.kernel.clone()),
            ("architecture", self.machine.clone(), other.machine.clone()),
            ("processor", self.processor.clone(), other.processor.clone()),
            (
                "processors",
                self.processors.to_string(),
                other.processors.to_string(),
            ),
            ("governor", show(&self.governor), show(&other.governor)),
            (
                "congestion control",
                show(&self.congestion_control),
                show(&other.congestion_control),
            ),
            (
                "features of the ring",
                self.ring_features.clone(),
                other.ring_features.clone(),
            ),
            (
                "server's processors",
                self.server_processors.clone(),
                other.server_processors.clone(),
            ),
            (
                "client's processors",
                self.client_processors.clone(),
                other.client_processors.clone(),
            ),
        ];
        let pairs = pairs.map(|(name, ours, theirs)| (name.to_owned(), ours, theirs));
        let tables = [
            ("mitigation", &self.mitigations, &other.mitigations),
            ("version of", &self.versions, &other.versions),
        ];
        let entries = tables.into_iter().flat_map(|(kind, ours, theirs)| {
            let names = ours
                .keys()
                .chain(theirs.keys().filter(|&name| !ours.contains_key(name)));
            names.map(move |name| {
                let of = |table: &BTreeMap<_, _>| table.get(name).cloned();
                let none = || "none".to_owned();
                (
                    format!("{kind} {name}"),
                    of(ours).unwrap_or_else(none),
                    of(theirs).unwrap_or_else(none),
                )
            })
        });
        pairs
            .into_iter()
            .chain(entries)
            .filter(|(_, ours, theirs)| ours != theirs)
            .map(|(name, ours, theirs)| format!("{name}: {ours} now, {theirs} then"))
            .collect()
    }
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn has_processor_flag(flag: &str) -> bool {
    let text = read("/proc/cpuinfo").unwrap_or_default();
    let mut flags = text.lines().filter(|line| line.starts_with("flags"));
    flags
        .next()
        .is_some_and(|line| line.split_whitespace().any(|word| word == flag))
}

fn load_average() -> Option<f64> {
    read("/proc/loadavg")?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// The part of all processors' time that is used at the moment, see `proc_stat(5)`.
fn busy_now() -> Option<f64> {
    let ticks = || -> Option<(f64, f64)> {
        let stat = read("/proc/stat")?;
        let ticks = stat.lines().next()?.split_whitespace().skip(1);
        let ticks: Vec<f64> = ticks.filter_map(|text| text.parse().ok()).collect();
        // Idle, and idle while something waits for a disk.
        Some((ticks.get(3)? + ticks.get(4)?, ticks.iter().take(8).sum()))
    };
    thread::sleep(SETTLING);
    let (idle, all) = ticks()?;
    thread::sleep(LOOK);
    let (idle_now, all_now) = ticks()?;
    let passed = all_now - all;
    (passed > 0.0).then(|| 1.0 - (idle_now - idle) / passed)
}

fn versions() -> BTreeMap<String, String> {
    let field = |block: &str, name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_matches([' ', '=', '"']).to_owned())
    };
    let packages = LOCK.split("[[package]]").filter_map(|block| {
        let name = field(block, "name")?;
        LIBRARIES.contains(&name.as_str()).then_some(())?;
        Some((name, field(block, "version")?))
    });
    // Of several versions the last is the newest, which is the one that ringlab uses.
    let mut versions: BTreeMap<_, _> = packages.collect();
    versions.insert("rustc".to_owned(), env!("RUSTC_VERSION").to_owned());
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_differs_from_another_in_words() {
        let processors = "0".parse().unwrap();
        let ours = Environment::new(Probe::gather(), &processors, &processors);
        assert_eq!(ours.differences(&ours), Vec::<String>::new());
        let mut theirs = ours.clone();
        theirs.kernel = "5.10.0".to_owned();
        theirs
            .versions
            .insert("tokio".to_owned(), "1.0.0".to_owned());
        let differences = ours.differences(&theirs);
        assert_eq!(differences.len(), 2, "{differences:?}");
        assert!(differences[0].ends_with("5.10.0 then"), "{differences:?}");
    }

    #[test]
    fn every_library_has_a_version() {
        let versions = versions();
        for name in LIBRARIES {
            assert!(versions.contains_key(name), "{name}");
        }
    }
}
