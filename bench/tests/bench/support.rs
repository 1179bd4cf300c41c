//! Running the command, and servers for it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Nothing waits this long that works.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a run has printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The command with these arguments.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringlab-bench"));
    command.args(arguments);
    command
}

/// Runs the command to its end.
pub(crate) fn run(arguments: &[&str]) -> Ran {
    ran(command(arguments).output().expect("the command runs"))
}

pub(crate) fn ran(output: Output) -> Ran {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

impl Ran {
    /// What it has printed, if it ended so.
    pub(crate) fn ended_with(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        self.stdout
    }

    /// The same as JSON.
    pub(crate) fn json(self, code: i32) -> Value {
        let text = self.ended_with(code);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

/// A run that ends when dropped, if it has not by then: nothing disturbs what comes after a test
/// that has failed.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ran {
        let mut output = Output {
            status: self.0.wait().unwrap(),
            stdout: Vec::new(),
            stderr: Vec::new(),
        };
        // What it has printed by then fits into its pipes.
        for (pipe, text) in [
            (self.0.stdout.take().map(OwnedFd::from), &mut output.stdout),
            (self.0.stderr.take().map(OwnedFd::from), &mut output.stderr),
        ] {
            pipe.map(|pipe| File::from(pipe).read_to_end(text).unwrap());
        }
        ran(output)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Not by SIGKILL, or it could not end its server at once.
        if let (Ok(None), Some(pid)) = (self.0.try_wait(), Pid::from_raw(self.0.id().cast_signed()))
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

/// A server that ends when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) endpoint: String,
}

impl Server {
    /// Starts one of ringlab's engines on a port that is free.
    pub(crate) fn start(engine: &str) -> Self {
        Self::listen(engine, "127.0.0.1:0")
    }

    /// Starts one of ringlab's engines.
    pub(crate) fn listen(engine: &str, endpoint: &str) -> Self {
        let mut child = command(&["serve", "-q", "--engine", engine, "--listen", endpoint])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server runs");
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let endpoint = line
            .trim_end()
            .strip_prefix("listening on ")
            .unwrap_or_default();
        assert!(!endpoint.is_empty(), "{line:?}");
        Self {
            child,
            endpoint: endpoint.to_owned(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A test.
pub(crate) fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name.replace('_', " "), move || {
        test();
        Ok::<(), Failed>(())
    })
}

/// Tests, named after their functions.
macro_rules! trials {
    ($($test:ident,)*) => {
        vec![$($crate::support::trial(stringify!($test), $test),)*]
    };
}
pub(crate) use trials;

/// Waits for an event that announces itself nowhere.
pub(crate) fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::yield_now();
    }
}
