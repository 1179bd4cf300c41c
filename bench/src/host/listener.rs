//! Who listens on a port.

use std::fs;

use anyhow::{Result, bail};
use rustix::process::Pid;

/// Sees to it that whoever listens on a port, in the network of `neighbour`, is one of `processes`.
///
/// # Errors
///
/// When nobody of these holds the listening socket: what they use would be compared, and somebody
/// else would have served.
pub(super) fn require_among(processes: &[Pid], neighbour: Pid, port: u16) -> Result<()> {
    let sockets = listening(neighbour, port);
    let holds_one = |pid: i32| sockets.iter().any(|socket| holds(pid, socket));
    if sockets.is_empty()
        || processes
            .iter()
            .any(|pid| holds_one(pid.as_raw_nonzero().get()))
    {
        return Ok(());
    }
    let holder = all().find(|&pid| holds_one(pid)).map_or_else(
        || "a process that cannot be seen".to_owned(),
        |pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("process {pid} ({})", name.trim_end())
        },
    );
    bail!(
        "{holder} serves port {port}, which is none of those that the command has started: its \
         work would not be measured. Start the server itself, in the foreground"
    )
}

/// The sockets that listen on a TCP port, as their descriptors are shown; see `proc(5)`, net/tcp.
fn listening(neighbour: Pid, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let tables = ["tcp", "tcp6"].map(|table| {
        let path = format!("/proc/{}/net/{table}", neighbour.as_raw_nonzero());
        fs::read_to_string(path).unwrap_or_default()
    });
    let port = format!(":{port:04X}");
    let lines = tables.iter().flat_map(|table| table.lines());
    let inodes = lines.filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        (local.ends_with(&port) && *state == LISTEN).then(|| format!("socket:[{inode}]"))
    });
    inodes.collect()
}

/// Whether a process has a socket open.
fn holds(pid: i32, socket: &str) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"));
    let descriptors = descriptors.into_iter().flatten().flatten();
    descriptors
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .any(|target| target.as_os_str() == socket)
}

fn all() -> impl Iterator<Item = i32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|process| process.file_name().to_str()?.parse().ok())
}
