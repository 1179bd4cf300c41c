//! A contender's process: started, looked at from outside, ended.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use ringlab::endpoint::Endpoint;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::contender::Contender;
use crate::processors::Processors;
use crate::report::Transport;

/// How long a server may take until clients can connect.
const START: Duration = Duration::from_secs(10);

/// How long a server may take to end when asked to; then it is killed.
const END: Duration = Duration::from_secs(2);

/// How often to look whether something has happened that nobody announces.
const LOOK: Duration = Duration::from_millis(2);

/// A running server, ended when dropped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    /// Where it listens.
    pub(super) endpoint: Endpoint,
    /// What it says on stderr.
    stderr: File,
    /// Kept open: a server that writes more than we read must not die of it.
    _stdout: Option<BufReader<ChildStdout>>,
    clock: ClockId,
    /// Whether it has ended for good, with all that it had started.
    reaped: bool,
}

/// Processor time that a process has used since it began.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cpu {
    /// By its CPU clock, to the nanosecond, with that of threads that have ended.
    pub(super) total: Duration,
    /// By the kernel's clock ticks.
    pub(super) user: Duration,
    /// Likewise.
    pub(super) system: Duration,
}

/// What a process has in memory, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    /// The most that was ever resident.
    pub(super) peak: u64,
    /// Resident and its own: no file's, not shared.
    pub(super) own: u64,
}

impl Server {
    /// Starts a contender on `processors` and waits until clients can connect.
    ///
    /// This thread runs there, too, afterwards: the caller pins it again.
    pub(super) fn start(
        contender: &Contender,
        transport: Transport,
        processors: &Processors,
        directory: &Path,
    ) -> Result<Self> {
        let port = match transport {
            Transport::Tcp => free_port()?,
            Transport::Unix => 0,
        };
        let socket = directory.join("server.sock");
        let invocation = contender.invocation(transport, processors.count(), &socket, port);
        let program = match &invocation.program {
            Some(program) => program.clone(),
            // This very program, even if its file has been replaced since.
            None => "/proc/self/exe".into(),
        };
        let stderr =
            tempfile::tempfile().context("cannot create a file for a server's messages")?;
        let mut command = Command::new(&program);
        command
            .args(&invocation.arguments)
            .stdin(Stdio::null())
            .stderr(stderr.try_clone()?)
            // Ctrl-C at the terminal is for this process; servers are ended by it.
            .process_group(0);
        command.stdout(match invocation.port {
            None => Stdio::piped(),
            Some(_) => Stdio::null(),
        });
        processors.pin()?;
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot run {}", program.to_string_lossy()))?;
        let stdout = child.stdout.take().map(BufReader::new);
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        let mut server = Self {
            child,
            endpoint: Endpoint::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            stderr,
            _stdout: None,
            clock: clock_getcpuclockid(pid).context("cannot find its CPU clock")?,
            reaped: false,
        };
        match stdout {
            Some(stdout) => server.wait_for_announcement(stdout)?,
            None => server.wait_for_greeting()?,
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
    fn wait_for_greeting(&mut self) -> Result<()> {
        let Endpoint::Tcp(address) = self.endpoint else {
            bail!("it has no port");
        };
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if self.has_ended() {
                return Err(self.explain("it did not start"));
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
        bail!("nothing listens on {address} within {} s", START.as_secs())
    }

    /// An error with what is known of the process's end and its last words.
    pub(super) fn explain(&mut self, what: &str) -> anyhow::Error {
        // What made it fail may reach us before its end does.
        let deadline = Instant::now() + Duration::from_millis(100);
        while !self.has_ended() && Instant::now() < deadline {
            thread::sleep(LOOK);
        }
        let mut end = what.to_owned();
        if self.has_ended() && !self.reaped {
            self.terminate();
            if let Ok(status) = self.child.wait() {
                end = format!("{what}: it ended with {status}");
            }
        }
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

    pub(super) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// What it has used by now.
    pub(super) fn cpu(&self) -> Result<Cpu> {
        let total = clock_gettime(self.clock).context("cannot read its CPU clock")?;
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        // See proc_pid_stat(5): the name, in parentheses, may hold anything.
        let mut fields = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let mut ticks = |skip| -> Option<Duration> {
            let ticks: u64 = fields.nth(skip)?.parse().ok()?;
            let per_second = rustix::param::clock_ticks_per_second().max(1);
            Some(Duration::from_secs_f64(ticks as f64 / per_second as f64))
        };
        let (user, system) = ticks(11)
            .zip(ticks(0))
            .with_context(|| format!("{path} is odd"))?;
        Ok(Cpu {
            total: total.into(),
            user,
            system,
        })
    }

    /// What it has in memory.
    pub(super) fn memory(&self) -> Result<Memory> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kilobytes = line.split_whitespace().nth(1)?;
            Some(kilobytes.parse::<u64>().ok()? * 1024)
        };
        let found = field("VmHWM").zip(field("RssAnon"));
        let (peak, own) = found.with_context(|| format!("{path} is odd"))?;
        Ok(Memory { peak, own })
    }

    /// What it uses is what its first process uses, so that must be all there is.
    pub(super) fn require_one_process(&self) -> Result<()> {
        let other = processes_of_group(self.pid()).find(|&pid| pid != self.pid());
        if let Some(pid) = other {
            bail!(
                "it has a second process, {pid}, which would not be measured: it must serve from \
                 one (a script by exec)"
            );
        }
        Ok(())
    }

    /// Ends it, and returns its context switches, those of all its threads from its start on.
    pub(super) fn end(mut self) -> Result<u64> {
        let before = context_switches_of_children()?;
        self.terminate();
        Ok(context_switches_of_children()?.saturating_sub(before))
    }

    /// Asks it to end, then makes it.
    fn terminate(&mut self) {
        let group = Pid::from_raw(self.pid());
        let signal = |signal| group.map(|group| kill_process_group(group, signal));
        signal(Signal::TERM);
        let deadline = Instant::now() + END;
        while !self.has_ended() && Instant::now() < deadline {
            thread::sleep(LOOK);
        }
        // Others of the group may live on without the first, whose id is theirs until it is reaped.
        signal(Signal::KILL);
        let _ = self.child.wait();
        self.reaped = true;
    }

    /// Whether its first process has ended; it is not reaped.
    fn has_ended(&self) -> bool {
        let Some(pid) = Pid::from_raw(self.pid()) else {
            return true;
        };
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(pid), look), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.reaped {
            self.terminate();
        }
    }
}

/// The processes of a group, see proc_pid_stat(5).
fn processes_of_group(group: i32) -> impl Iterator<Item = i32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(move |process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(process.path().join("stat")).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        let of: i32 = fields.split_whitespace().nth(2)?.parse().ok()?;
        (of == group).then_some(pid)
    })
}

/// Of the children that have ended and been waited for, see `getrusage(2)`.
fn context_switches_of_children() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("cannot read resource usage")?;
    let switches = usage.voluntary_context_switches() + usage.involuntary_context_switches();
    Ok(switches.cast_unsigned())
}

/// A port that nobody listens on at the moment.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?.port())
}
