//! Signals that whoever started the server has blocked or ignored.

use std::process::Command;
use std::thread;

use libtest_mimic::Trial;
use nix::sys::signal::SigSet;
use rustix::process::Signal;

use crate::row;
use crate::support::{Server, ringlab};

const SERVE: [&str; 5] = ["serve", "--engine", "threads", "--listen", "127.0.0.1:0"];

pub(crate) fn trials() -> Vec<Trial> {
    let cases: [(&str, fn()); 2] = [
        ("blocked_signals_are_handled", blocked_signals),
        ("ignored_signals_stay_ignored", ignored_signals),
    ];
    row::trials_of_no_row("signals", cases)
}

fn blocked_signals() {
    for signals in [&[Signal::TERM][..], &[Signal::USR1, Signal::INT]] {
        // A mask is inherited by what the thread starts.
        let server = thread::spawn(|| {
            SigSet::all()
                .thread_block()
                .expect("signals can be blocked");
            Server::spawn(ringlab().args(SERVE))
        });
        let server = server.join().expect("it starts");
        if signals.contains(&Signal::USR1) {
            assert_eq!(server.counter("accepted"), 0);
        }
        server.signal(*signals.last().expect("there is one"));
        let exit = server.exit();
        assert_eq!(exit.code, Some(0), "{}", exit.log);
    }
}

fn ignored_signals() {
    for (name, ignored, other) in [
        ("INT", Signal::INT, Signal::TERM),
        ("HUP", Signal::HUP, Signal::INT),
        ("TERM", Signal::TERM, Signal::INT),
        ("USR1", Signal::USR1, Signal::TERM),
    ] {
        let script = format!("trap '' {name} && exec \"$0\" \"$@\"");
        let server = Server::spawn(
            Command::new("sh")
                .args(["-c", &script, env!("CARGO_BIN_EXE_ringlab")])
                .args(SERVE),
        );
        server.signal(ignored);
        server.greeted().round_trip();
        server.signal(other);
        let exit = server.exit();
        assert_eq!(exit.code, Some(0), "{}", exit.log);
        let drain = exit.log.lines().find(|line| line.contains("draining"));
        let by = format!("signal=\"SIG{name}\"");
        assert!(
            drain.is_some_and(|line| !line.contains(&by)),
            "{}",
            exit.log
        );
    }
}
