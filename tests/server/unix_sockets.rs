//! Unix sockets in directories where not everything works, or where others are.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::thread;

use libtest_mimic::Trial;
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::cli::{run, stderr, with_failing};
use crate::row;
use crate::support::{Server, ringlab, unix_endpoint};

pub(crate) fn trials() -> Vec<Trial> {
    let cases: [(&str, fn()); 4] = [
        ("locks_that_cannot_be_had_are_done_without", no_locks),
        ("directories_need_not_be_readable", unreadable_directory),
        ("no_mode_is_ever_changed", no_chmod),
        ("what_somebody_has_bound_is_left_alone", bound_already),
    ];
    row::trials_of_no_row("unix_sockets", cases)
}

fn start(directory: &Path, args: &[&str]) -> Server {
    let listen = unix_endpoint(directory);
    let mut command = ringlab();
    command.args(["serve", "--engine", "threads", "--listen", &listen]);
    Server::spawn(command.args(args))
}

fn expect_warning(server: Server) {
    server.greeted().round_trip();
    let log = server.stop().log;
    let warnings = log.lines().filter(|line| line.contains(" WARN "));
    let warnings: Vec<_> = warnings.collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("cannot lock the directory"), "{log}");
}

fn no_locks() {
    for errno in [Errno::BADF, Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS] {
        let directory = tempfile::tempdir().expect("a directory for the socket");
        let path = directory.path();
        // Left behind by a server that was killed.
        drop(bind(&path.join("socket")));
        let number = errno.raw_os_error().unsigned_abs();
        let server = with_failing(&[libc::SYS_flock], number, || start(path, &[]));
        expect_warning(server);
    }
}

fn unreadable_directory() {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let path = directory.path();
    let mode = |mode| fs::set_permissions(path, Permissions::from_mode(mode));
    mode(0o333).expect("it is ours");
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            // Of a thread and what it starts; who is not root has none of them anyway.
            for capability in [CapabilitySet::DAC_OVERRIDE, CapabilitySet::DAC_READ_SEARCH] {
                let _ = remove_capability_from_bounding_set(capability);
            }
            start(path, &[])
        });
        expect_warning(server.join().expect("it starts"));
    });
    mode(0o700).expect("it is ours");
}

/// Changing the mode of a file would follow a link that others could put there.
fn no_chmod() {
    let calls = [
        #[cfg(target_arch = "x86_64")] // newer architectures have the others only
        libc::SYS_chmod,
        libc::SYS_fchmod,
        libc::SYS_fchmodat,
        libc::SYS_fchmodat2,
    ];
    let forbidden = Errno::PERM.raw_os_error().unsigned_abs();
    for (mode, expected) in [("0600", 0o600), ("0666", 0o666), ("0", 0)] {
        let directory = tempfile::tempdir().expect("a directory for the socket");
        let path = directory.path();
        let args = ["--unix-mode", mode];
        let server = with_failing(&calls, forbidden, || start(path, &args));
        let socket = path.join("socket").metadata().expect("the socket's file");
        assert_eq!(socket.mode() & 0o7777, expected);
        server.stop();
    }
}

fn bind(path: &Path) -> Socket {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("sockets can be made");
    let address = SockAddr::unix(path).expect("a short path");
    socket.bind(&address).expect("a path of its own");
    socket
}

fn bound_already() {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let path = directory.path().join("socket");
    let other = bind(&path);
    let inode = || path.metadata().expect("the socket's file").ino();
    let before = inode();
    let listen = unix_endpoint(directory.path());
    let output = run(&["serve", "--engine", "threads", "--listen", &listen]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains("address already in use"));
    assert_eq!(inode(), before);
    // Nobody can listen on it any more.
    drop(other);
    start(directory.path(), &[]).greeted().round_trip();
}
