//! What the kernel charges a server for: its own memory and the kernel's on its behalf.
//!
//! A process's resident memory knows nothing of the kernel's for its sockets, of a ring's requests
//! for them, of epoll's entries or of its threads' stacks, which are the most of what an idle
//! connection costs. A control group is charged for nearly all of it (`memory.current` of version
//! 2, see Documentation/admin-guide/cgroup-v2.rst of the kernel; `memory.usage_in_bytes` of version
//! 1). What remains unknown is what the kernel makes while nobody in particular runs, such as a
//! socket when a handshake ends: the same for all servers.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where memory is charged for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    version: Version,
    root: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Hierarchy {
    /// The one in which this process may make a group; `None` if there is none.
    pub fn find() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let candidates = mounts.lines().filter_map(Self::of_mount);
        // Below the group that this process is in, or, where version 2 allows none there, beside it.
        let mut candidates = candidates.flat_map(|mounted| {
            let own = mounted.own(&groups);
            own.into_iter().chain([mounted])
        });
        candidates.find(|hierarchy| {
            let trial = hierarchy.group();
            let made = fs::create_dir(&trial).is_ok();
            let usable = made && hierarchy.charged(&trial).is_ok();
            if made {
                // Nobody has ever been in there.
                let _ = fs::remove_dir(&trial);
            }
            usable
        })
    }

    /// From a line of `proc_pid_mountinfo(5)`.
    fn of_mount(line: &str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let root = PathBuf::from(mount.split(' ').nth(4)?);
        let mut fields = file_system.split(' ');
        let version = match (fields.next()?, fields.nth(1)?) {
            ("cgroup2", _) => Version::Two,
            ("cgroup", options) if options.split(',').any(|it| it == "memory") => Version::One,
            _ => return None,
        };
        Some(Self { version, root })
    }

    /// The part of it below the group that `/proc/self/cgroup`, whose text is `groups`, names.
    fn own(&self, groups: &str) -> Option<Self> {
        let mut lines = groups.lines().map(|line| line.splitn(3, ':'));
        let path = lines.find_map(|mut fields| {
            let (_, controllers) = (fields.next()?, fields.next()?);
            let is_ours = match self.version {
                Version::One => controllers.split(',').any(|it| it == "memory"),
                Version::Two => controllers.is_empty(),
            };
            is_ours.then(|| fields.next())?
        })?;
        Some(Self {
            version: self.version,
            root: self.root.join(path.trim_start_matches('/')),
        })
    }

    /// The path of a group that is not there yet.
    pub fn group(&self) -> PathBuf {
        self.root.join(crate::host::unique_name())
    }

    /// What a group is charged for, in bytes: all but what is cached of files, which goes when
    /// somebody needs the room.
    ///
    /// The kernel charges in batches, so this is right to some hundred kilobytes.
    ///
    /// # Errors
    ///
    /// When the group does not exist, or memory is not charged for in it.
    pub fn charged(&self, group: &Path) -> Result<u64> {
        let (usage, cached) = match self.version {
            Version::One => ("memory.usage_in_bytes", "cache "),
            Version::Two => ("memory.current", "file "),
        };
        let read = |name: &str| {
            let path = group.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let usage: u64 = read(usage)?.trim().parse()?;
        let statistics = read("memory.stat")?;
        let cached = statistics
            .lines()
            .find_map(|line| line.strip_prefix(cached));
        let cached: u64 = cached.unwrap_or("0").trim().parse()?;
        Ok(usage.saturating_sub(cached))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_where_they_are_mounted() {
        let of = |line| Hierarchy::of_mount(line);
        let one = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory";
        assert_eq!(
            of(one).unwrap(),
            Hierarchy {
                version: Version::One,
                root: "/sys/fs/cgroup/memory".into()
            }
        );
        let two = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(of(two).unwrap().version, Version::Two);
        let below = of(one)
            .unwrap()
            .own("5:cpu:/a\n4:memory:/b/c\n0::/d\n")
            .unwrap();
        assert_eq!(below.root, Path::new("/sys/fs/cgroup/memory/b/c"));
        let other = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu";
        assert_eq!(of(other), None);
        assert_eq!(of("31 23 0:28 / /tmp rw - tmpfs tmpfs rw"), None);
    }
}
