//! Keeps what a contender starts together, and ends it.
//!
//! A server may be started by a wrapper, in a session of its own, by forking twice; and whoever
//! measures may be killed at any moment. So between the two stands a process of this program, which
//! adopts whatever loses its parent (`PR_SET_CHILD_SUBREAPER`, see `prctl(2)`) and watches its
//! standard input: a socket on which it reports, one line each,
//!
//! - `started PID`, or `failed WHY` and no more;
//! - `first STATUS`, when the process that it started has ended;
//! - `gone`, when none of its descendants is left,
//!
//! and at whose end, which comes with the end of whoever measures, it ends them all.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::low_level::pipe;

use super::descendants;

/// How long processes may take to end when asked to; then they are killed.
const END: Duration = Duration::from_secs(2);

/// How long to wait for those that are killed before looking whether more have come.
const LOOK: Duration = Duration::from_millis(20);

/// What a server needs around it: made before it starts, for nobody else, and removed when all of
/// it is gone.
#[derive(Debug)]
pub struct Premises {
    /// A directory, for its socket.
    pub directory: Option<PathBuf>,
    /// A control group, in which all its processes are.
    pub control_group: Option<PathBuf>,
}

/// Starts `command`, and stays until none of its descendants is left.
///
/// # Errors
///
/// When it cannot do its own work; that the command cannot be run is reported on the socket.
pub fn keep(premises: &Premises, command: &[OsString]) -> Result<()> {
    let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (signals, writer) = UnixStream::pair()?;
    signals.set_nonblocking(true)?;
    let ended = Arc::new(AtomicBool::new(false));
    let ending = [SIGHUP, SIGINT, SIGTERM];
    for signal in ending {
        flag::register(signal, Arc::clone(&ended)).context("cannot handle signals")?;
    }
    for signal in ending.into_iter().chain([SIGCHLD]) {
        pipe::register(signal, writer.try_clone()?).context("cannot handle signals")?;
    }
    set_child_subreaper(Some(getpid())).context("cannot adopt processes (prctl(2))")?;
    let mut keeper = Keeper {
        control,
        signals,
        ended,
    };
    match premises.start(command) {
        Ok(first) => keeper.stay(first)?,
        Err(error) => keeper.report(&format!("failed {error:#}")),
    }
    premises.remove();
    keeper.report("gone");
    Ok(())
}

impl Premises {
    /// Makes them, and starts a command on them.
    fn start(&self, command: &[OsString]) -> Result<Pid> {
        let (program, arguments) = command.split_first().context("there is no command")?;
        if let Some(directory) = &self.directory {
            let made = DirBuilder::new().mode(0o700).create(directory);
            made.with_context(|| format!("cannot create {}", directory.display()))?;
        }
        if let Some(group) = &self.control_group {
            let made = fs::create_dir(group);
            made.with_context(|| format!("cannot create {}", group.display()))?;
            // The command begins in there, too. What this process has used by then is the same for
            // all, and in no difference.
            move_to(group)?;
        }
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .spawn();
        let child = child.with_context(|| format!("cannot run {}", program.to_string_lossy()))?;
        Pid::from_raw(child.id().cast_signed()).context("it has no process id")
    }

    fn remove(&self) {
        // Of what does not go now, nobody knows more when told.
        if let Some(directory) = &self.directory {
            let _ = fs::remove_dir_all(directory);
        }
        if let Some(group) = &self.control_group {
            let _ = group.parent().map(move_to);
            let _ = fs::remove_dir(group);
        }
    }
}

/// Moves this process into a control group.
fn move_to(group: &Path) -> Result<()> {
    let processes = group.join("cgroup.procs");
    let moved = fs::write(&processes, "0");
    moved.with_context(|| format!("cannot write {}", processes.display()))
}

struct Keeper {
    control: UnixStream,
    /// Has a byte for each signal.
    signals: UnixStream,
    /// Whether one of them was to end all.
    ended: Arc<AtomicBool>,
}

impl Keeper {
    /// Tells whoever measures, who may have gone.
    fn report(&mut self, line: &str) {
        let _ = self.control.write_all(format!("{line}\n").as_bytes());
    }

    /// Until all are gone, by themselves or because they have to.
    fn stay(&mut self, first: Pid) -> Result<()> {
        self.report(&format!("started {}", first.as_raw_nonzero()));
        while self.reap(first) {
            if self.is_ended() {
                return self.end_all(first);
            }
            self.wait()?;
        }
        Ok(())
    }

    /// Takes note of all children that have ended. Returns whether any is left.
    fn reap(&mut self, first: Pid) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == first => {
                    self.report(&format!("first {}", status.as_raw()));
                }
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(rustix::io::Errno::INTR) => {}
                // No children, and so no descendants: who loses his parent is ours.
                Err(_) => return false,
            }
        }
    }

    /// Waits until something may have changed.
    fn wait(&mut self) -> Result<()> {
        let fds: [BorrowedFd<'_>; 2] = [self.control.as_fd(), self.signals.as_fd()];
        wait_for(&fds, None)?;
        self.forget_signals();
        Ok(())
    }

    /// Whether it is to end: nothing is ever written on the socket from the other end.
    fn is_ended(&self) -> bool {
        let control = [self.control.as_fd()];
        let is_closed = wait_for(&control, Some(Duration::ZERO)).unwrap_or(true);
        is_closed || self.ended.load(Ordering::Relaxed)
    }

    /// Asks all descendants to end, then makes them.
    fn end_all(&mut self, first: Pid) -> Result<()> {
        let signal_all = |signal| {
            for pid in descendants::of(getpid()) {
                // It may have ended by now.
                let _ = kill_process(pid, signal);
            }
        };
        signal_all(Signal::TERM);
        let deadline = Instant::now() + END;
        while self.reap(first) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                signal_all(Signal::KILL);
            }
            let fds = [self.signals.as_fd()];
            wait_for(&fds, Some(left.max(LOOK)))?;
            self.forget_signals();
        }
        Ok(())
    }

    fn forget_signals(&mut self) {
        // How many there were tells nothing.
        let _ = self.signals.read(&mut [0; 64]);
    }
}

/// Waits until one of these can be read, or is closed; returns whether one is.
fn wait_for(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> Result<bool> {
    let timeout = timeout.map(Timespec::try_from).transpose()?;
    let ready = fds
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN));
    match poll(&mut ready.collect::<Vec<_>>(), timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error).context("cannot wait for events"),
    }
}
