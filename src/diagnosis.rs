//! Why io_uring cannot be used here, and what to do about it.

use std::fmt;
use std::fs;
use std::io;

use rustix::io::Errno;

/// The sysctl that switches io_uring off, since Linux 6.6: 1 for unprivileged processes outside
/// `kernel.io_uring_group`, 2 for all.
const DISABLED: &str = "/proc/sys/kernel/io_uring_disabled";

/// Why an engine does not run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    /// What stands in the way.
    pub cause: String,
    /// What an operator can do about it.
    pub remedy: String,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cause, remedy } = self;
        write!(f, "{cause}\n  remedy: {remedy}")
    }
}

impl std::error::Error for Unavailable {}

/// The value of the sysctl `kernel.io_uring_disabled`, where the kernel has it.
pub(crate) fn disabled() -> Option<String> {
    let value = fs::read_to_string(DISABLED).ok()?;
    Some(value.trim().to_owned())
}

/// Tells why setting up a ring, or a first operation on one, failed with `error`.
pub fn explain(error: &io::Error) -> Unavailable {
    explain_in(error, &Surroundings::read())
}

/// What explains a refusal beyond its error code.
#[derive(Debug, Default)]
struct Surroundings {
    /// The value of `kernel.io_uring_disabled`, where the kernel has it.
    disabled: Option<String>,
    /// Whether a seccomp filter applies to this process, see `proc_pid_status(5)`.
    seccomp: bool,
    /// The kernel's release, as `uname -r` prints it.
    release: String,
}

impl Surroundings {
    fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            disabled: disabled(),
            seccomp: status
                .lines()
                .filter_map(|line| line.strip_prefix("Seccomp:"))
                .any(|mode| mode.trim() == "2"),
            release: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
        }
    }
}

fn explain_in(error: &io::Error, around: &Surroundings) -> Unavailable {
    let release = &around.release;
    let unavailable = |cause: String, remedy: &str| Unavailable {
        cause,
        remedy: remedy.to_owned(),
    };
    let seccomp_remedy = "allow io_uring_setup, io_uring_enter and io_uring_register in the \
         seccomp profile (containers: run with --security-opt seccomp=PROFILE.json, a copy of \
         the default profile with the three added; systemd: SystemCallFilter=@aio)";
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM) => match around.disabled.as_deref() {
            Some("2") => unavailable(
                "io_uring is switched off for all processes (sysctl kernel.io_uring_disabled=2)"
                    .to_owned(),
                "as root: sysctl -w kernel.io_uring_disabled=0",
            ),
            Some("1") => unavailable(
                format!(
                    "io_uring is switched off for unprivileged processes (sysctl \
                     kernel.io_uring_disabled=1){}",
                    if around.seccomp {
                        ", or forbidden by a seccomp filter"
                    } else {
                        ""
                    }
                ),
                "as root: sysctl -w kernel.io_uring_disabled=0, or put this user in the group \
                 whose number is in kernel.io_uring_group; in a container also allow io_uring in \
                 its seccomp profile",
            ),
            _ if around.seccomp => unavailable(
                "io_uring is forbidden to this process by a seccomp filter, as in most containers"
                    .to_owned(),
                seccomp_remedy,
            ),
            _ => unavailable(
                "io_uring is forbidden to this process, perhaps by a security module (SELinux, \
                 AppArmor)"
                    .to_owned(),
                "look for a denial in the audit log: dmesg, or journalctl -k",
            ),
        },
        Some(Errno::NOSYS) if around.seccomp => unavailable(
            format!(
                "io_uring is hidden from this process by a seccomp filter, or missing from this \
                 kernel ({release})"
            ),
            seccomp_remedy,
        ),
        Some(Errno::NOSYS) => unavailable(
            format!("this kernel ({release}) has no io_uring"),
            "run Linux 5.10 or later, built with CONFIG_IO_URING",
        ),
        Some(Errno::INVAL) => unavailable(
            format!("the io_uring of this kernel ({release}) is too old"),
            "run Linux 5.10 or later",
        ),
        Some(Errno::NOMEM) => unavailable(
            "no memory for the ring; on some kernels rings count against the limit on locked \
             memory (RLIMIT_MEMLOCK)"
                .to_owned(),
            "raise the limit (ulimit -l, systemd: LimitMEMLOCK=) or use fewer --workers",
        ),
        Some(Errno::MFILE | Errno::NFILE) => unavailable(
            "no file descriptor is left for the ring".to_owned(),
            "raise the limit (ulimit -n, systemd: LimitNOFILE=; for ENFILE sysctl fs.file-max)",
        ),
        _ => unavailable(
            format!("io_uring fails here: {error}"),
            "use another engine, and please report this with the output of uname -a",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(errno: Errno, around: Surroundings) -> String {
        explain_in(&errno.into(), &around).to_string()
    }

    #[test]
    fn the_sysctl_is_named_before_anything_else() {
        for value in ["1", "2"] {
            let text = explained(
                Errno::PERM,
                Surroundings {
                    disabled: Some(value.to_owned()),
                    seccomp: true,
                    ..Surroundings::default()
                },
            );
            assert!(
                text.contains(&format!("kernel.io_uring_disabled={value}")),
                "{text}"
            );
            assert!(
                text.contains("sysctl -w kernel.io_uring_disabled=0"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_seccomp_filter_is_suspected_when_there_is_one() {
        for errno in [Errno::PERM, Errno::NOSYS] {
            let filtered = Surroundings {
                disabled: Some("0".to_owned()),
                seccomp: true,
                ..Surroundings::default()
            };
            let text = explained(errno, filtered);
            assert!(text.contains("by a seccomp filter"), "{text}");
            let text = explained(errno, Surroundings::default());
            assert!(!text.contains("seccomp"), "{text}");
        }
    }

    #[test]
    fn every_cause_comes_with_a_remedy() {
        for errno in [
            Errno::PERM,
            Errno::NOSYS,
            Errno::INVAL,
            Errno::NOMEM,
            Errno::MFILE,
            Errno::IO,
        ] {
            let text = explained(errno, Surroundings::default());
            assert!(text.contains("\n  remedy: "), "{text}");
        }
    }
}
