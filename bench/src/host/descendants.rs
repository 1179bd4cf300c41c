//! The processes that a process has started, and those that these have started.

use std::collections::HashMap;
use std::fs;

use rustix::process::Pid;

/// The descendants of a process as they are at the moment, without itself and without those that
/// have ended; see `proc_pid_stat(5)`.
pub(super) fn of(ancestor: Pid) -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut left = vec![ancestor.as_raw_nonzero().get()];
    while let Some(parent) = left.pop() {
        let born = children.remove(&parent).unwrap_or_default();
        left.extend(&born);
        found.extend(born.into_iter().filter_map(Pid::from_raw));
    }
    found
}

/// The parent of a process that has not ended.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then_some(())?;
    fields.next()?.parse().ok()
}
