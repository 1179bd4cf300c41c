//! A contender's processes: started, looked at from outside, ended.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use ringlab::endpoint::Endpoint;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;

use super::descendants;
use super::listener;
use super::place::Place;
use crate::processors::Processors;

/// How long a server may take until clients can connect.
const START: Duration = Duration::from_secs(10);

/// How long it may take if what was started has ended by then: one that goes to the background does
/// so when it can serve.
const BACKGROUND: Duration = Duration::from_secs(1);

/// How long its keeper may take to end it.
const END: Duration = Duration::from_secs(5);

/// How often to look whether something has happened that nobody announces.
const LOOK: Duration = Duration::from_millis(2);

/// What starts a server.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The program; `None` for this one.
    pub program: Option<OsString>,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// The port on which it will listen; `None` if it announces where it does.
    pub port: Option<u16>,
    /// A directory that it needs, which is there from before its start until after its end.
    pub directory: Option<PathBuf>,
    /// A control group for its processes, likewise.
    pub control_group: Option<PathBuf>,
}

/// A running server, ended when dropped.
#[derive(Debug)]
pub struct Server {
    keeper: Child,
    reports: Reports,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Where all its processes are.
    pub control_group: Option<PathBuf>,
    /// What it says on stderr.
    stderr: File,
    /// Kept open: a server that writes more than we read must not die of it.
    _stdout: Option<BufReader<ChildStdout>>,
}

/// What the keeper has reported by now.
#[derive(Debug)]
struct Reports {
    control: BufReader<UnixStream>,
    /// How the first process ended.
    first: Option<ExitStatus>,
    /// Whether none is left.
    gone: bool,
}

impl Server {
    /// Starts a server at `place`, on `processors`, and waits until clients can connect; `from` is
    /// where these will be.
    ///
    /// This thread runs on these processors, too, afterwards: the caller pins it again.
    ///
    /// # Errors
    ///
    /// When it cannot be run, ends, or serves nobody within ten seconds; when whoever listens is
    /// not one of the processes that were started, whose work would not be measured.
    pub fn start(
        invocation: &Invocation,
        place: &Place,
        from: &Place,
        processors: &Processors,
    ) -> Result<Self> {
        let stderr =
            tempfile::tempfile().context("cannot create a file for a server's messages")?;
        let (control, theirs) = UnixStream::pair()?;
        let mut command = Command::new("/proc/self/exe");
        command.arg("keep");
        if let Some(directory) = &invocation.directory {
            command.arg("--directory").arg(directory);
        }
        if let Some(group) = &invocation.control_group {
            command.arg("--control-group").arg(group);
        }
        command
            .arg("--")
            // This very program, even if its file has been replaced since.
            .arg(
                invocation
                    .program
                    .clone()
                    .unwrap_or_else(|| "/proc/self/exe".into()),
            )
            .args(&invocation.arguments)
            .stdin(OwnedFd::from(theirs))
            .stderr(stderr.try_clone()?)
            // Ctrl-C at the terminal is for this process; servers are ended by it.
            .process_group(0);
        command.stdout(match invocation.port {
            None => Stdio::piped(),
            Some(_) => Stdio::null(),
        });
        processors.pin()?;
        let visit = place.enter()?;
        let mut keeper = command
            .spawn()
            .context("cannot run this program once more")?;
        drop(visit);
        // With it goes our copy of the keeper's end.
        drop(command);
        let stdout = keeper.stdout.take().map(BufReader::new);
        let port = invocation.port.unwrap_or_default();
        let mut server = Self {
            keeper,
            reports: Reports {
                control: BufReader::new(control),
                first: None,
                gone: false,
            },
            endpoint: Endpoint::Tcp(SocketAddr::new(place.address(), port)),
            control_group: invocation.control_group.clone(),
            stderr,
            _stdout: None,
        };
        server.reports.started()?;
        match stdout {
            Some(stdout) => server.wait_for_announcement(stdout)?,
            None => {
                server.wait_for_greeting(from)?;
                listener::require_among(&server.processes(), server.keeper_id(), port)?;
            }
        }
        Ok(server)
    }

    /// Waits for the line `listening on ENDPOINT`.
    fn wait_for_announcement(&mut self, mut stdout: BufReader<ChildStdout>) -> Result<()> {
        let timeout = Timespec::try_from(START)?;
        let mut ready = [PollFd::new(stdout.get_ref(), PollFlags::IN)];
        if poll(&mut ready, Some(&timeout))? == 0 {
            bail!("it did not start within {} s", START.as_secs());
        }
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let endpoint = line.trim_end().strip_prefix("listening on ");
        let endpoint = endpoint.and_then(|endpoint| endpoint.parse().ok());
        self.endpoint = match endpoint {
            Some(endpoint) => endpoint,
            None => return Err(self.explain("it did not start")),
        };
        self._stdout = Some(stdout);
        Ok(())
    }

    /// Waits until the server greets, which is how one that announces nothing shows that it runs.
    fn wait_for_greeting(&mut self, from: &Place) -> Result<()> {
        let Endpoint::Tcp(address) = self.endpoint else {
            bail!("it has no port");
        };
        let _visit = from.enter()?;
        let start = Instant::now();
        let mut deadline = start + START;
        while Instant::now() < deadline {
            if self.has_ended() || self.reports.first.is_some_and(|status| !status.success()) {
                return Err(self.explain("it did not start"));
            }
            if self.reports.first.is_some() {
                deadline = deadline.min(start + BACKGROUND);
            }
            let Ok(mut stream) = TcpStream::connect_timeout(&address, START) else {
                thread::sleep(LOOK);
                continue;
            };
            stream.set_read_timeout(Some(START))?;
            let mut greeting = [0];
            stream
                .read_exact(&mut greeting)
                .map_err(|_| self.explain("it accepts but does not greet"))?;
            return Ok(());
        }
        if self.reports.first.is_some() {
            return Err(self.explain("it did not start"));
        }
        let all = match address.ip().is_loopback() {
            true => "",
            false => "; it must listen on all addresses, or on the one that stands for {address}",
        };
        bail!(
            "nobody answers at {address} within {} s{all}",
            START.as_secs()
        )
    }

    /// An error with what is known of the server's end and its last words.
    pub fn explain(&mut self, what: &str) -> anyhow::Error {
        // What made it fail may reach us before its end does.
        let deadline = Instant::now() + Duration::from_millis(100);
        while !self.has_ended() && Instant::now() < deadline {
            thread::sleep(LOOK);
        }
        let end = match self.reports.first {
            Some(status) => format!("{what}: it ended with {status}"),
            None => what.to_owned(),
        };
        match self.last_words() {
            Some(words) => anyhow!("{end}: {words}"),
            None => anyhow!(end),
        }
    }

    fn last_words(&mut self) -> Option<String> {
        const ENOUGH: usize = 400;
        let mut text = Vec::new();
        self.stderr.seek(SeekFrom::Start(0)).ok()?;
        self.stderr.read_to_end(&mut text).ok()?;
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().rfind(|line| !line.trim().is_empty())?;
        Some(line.trim().chars().take(ENOUGH).collect())
    }

    /// All processes that serve, or may: all that descend from what was started, whatever session
    /// they are in and whoever has lost his parent.
    pub fn processes(&self) -> Vec<Pid> {
        descendants::of(self.keeper_id())
    }

    fn keeper_id(&self) -> Pid {
        Pid::from_child(&self.keeper)
    }

    /// Whether none of its processes is left.
    fn has_ended(&mut self) -> bool {
        self.reports.look();
        self.reports.gone
    }

    /// Ends it, with all that it has started.
    fn end(&mut self) {
        let control = self.reports.control.get_ref();
        // The keeper sees it, and reports that it is done by its end.
        let _ = control.shutdown(std::net::Shutdown::Write);
        let _ = control.set_nonblocking(false);
        let _ = control.set_read_timeout(Some(END));
        let mut line = String::new();
        while matches!(self.reports.control.read_line(&mut line), Ok(1..)) {
            line.clear();
        }
        // It has closed its socket, or takes longer than it may.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

impl Reports {
    /// Waits for the first.
    fn started(&mut self) -> Result<()> {
        let control = self.control.get_ref();
        control.set_read_timeout(Some(START))?;
        let mut line = String::new();
        self.control
            .read_line(&mut line)
            .context("nothing was reported of its start")?;
        self.control.get_ref().set_nonblocking(true)?;
        match line.trim_end().split_once(' ') {
            Some(("started", _)) => Ok(()),
            Some(("failed", why)) => bail!("{why}"),
            _ => bail!("it could not be started"),
        }
    }

    /// Reads what there is.
    fn look(&mut self) {
        let mut line = String::new();
        // A line is written at once, and so read at once.
        while !self.gone {
            line.clear();
            match self.control.read_line(&mut line) {
                Err(_) => break,
                Ok(_) => match line.trim_end().split_once(' ') {
                    Some(("first", status)) => {
                        self.first = status.parse().ok().map(ExitStatus::from_raw);
                    }
                    // It says so, or has gone itself.
                    _ => self.gone = true,
                },
            }
        }
    }
}

/// A port that nobody listens on at the moment, at a place.
///
/// # Errors
///
/// When none is free, or the place cannot be entered.
pub fn free_port(place: &Place) -> Result<u16> {
    let _visit = place.enter()?;
    let listener = TcpListener::bind((place.address(), 0)).context("no port is free")?;
    Ok(listener.local_addr()?.port())
}
