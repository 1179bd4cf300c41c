//! What a program is started with: what works, what people write, and what they had better not.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::{Opt, Program};

/// What works where the help says that a value of this kind is wanted.
pub(super) const PLAUSIBLE: &[(&str, &[&str])] = &[
    ("<N>", &["1", "2", "3"]),
    ("<BYTES>", &["1", "32", "32:90,4096:10"]),
    ("<DURATION>", &["1ms", "20ms", "300ms"]),
    (
        "<ENDPOINT>",
        &["127.0.0.1:0", "unix:socket", "[::1]:0", SILENT],
    ),
    ("<ADDRESS:PORT>", &["127.0.0.1:0"]),
    ("<LIST>", &["0", "0-1"]),
    ("<FILE>", &["file", "new"]),
    ("<SPEC>", &["threads", "epoll", "uring:none"]),
];

/// Stands for the address of somebody who accepts and says nothing.
const SILENT: &str = "silent";

/// Where arguments come from.
pub(super) struct Values<'a> {
    pub(super) program: &'a Program,
    /// Of somebody who accepts and says nothing.
    pub(super) address: &'a str,
}

/// What people write, and what they had better not. Nothing here names a file outside of the run's
/// directory, or a program that does anything: some options run what they are given.
#[rustfmt::skip]
const ODD: &[&str] = &[
    "", "-", "--", "0", "1", "2", "3", "10", "100", "-1", "+1", "0x10", "1e3", "1e309", "NaN",
    "inf", "-0.0", "0.00001", "65535", "65536", "4294967295", "4294967296", "9223372036854775808",
    "18446744073709551615", "18446744073709551616", "340282366920938463463374607431768211456",
    "٣", "½", "\u{202e}x", "🦀", "0s", "1ns", "1us", "1ms", "20ms", "200ms", "1s", "1week",
    "584542046090y", "99999999999999999999s", "1s1s", "-1s", "1.5s", "never", "127.0.0.1:0",
    "[::1]:0", "localhost:0", "127.0.0.1:1", "[fe80::1%lo]:0", "[fe80::1%]:0",
    "[::1%4294967296]:0", ":0", "[]:0", "0:0", "*:0", "256.0.0.1:0", "name.invalid:1",
    "255.255.255.255:0", "[ff02::1%lo]:0", "0.0.0.0:0", "unix:", "unix:socket", "unix:directory",
    "unix:file", "unix:missing/socket", "unix:@x", "file", "other", "directory", "missing",
    "missing/file", "directory/new", "new", "file/new", "auto", "none", "none,+sqpoll",
    "auto,-multishot-recv,", "-sqpoll", ",,", "+", "-", "0,2-3", "3-0", "0-", "-0",
    "0-4294967295", "0,0,0", "1-1-1", "0-1023", "1024", "32:90,4096:10", "0:0", "1:0", "0:1",
    "1:18446744073709551615", "18446744073709551615:1", "1:1,1:1", "32", ":", "32:",
    "x=true {port}", "x=false {port}", "x={port}", "x=", "=x", "=", "x=true", "x='true {port}",
    "x=true {port} {port}", "uring:none", "uring:", "uring:warp", "peer:monoio", "peer:compio",
    "peer:", "epoll", "threads", "uring", "request-reply,connections=2,size=16",
    "idle,connections=", "churn,rate=25%", "stream,=,", "p99=1ms", "p100=0", "p0=1week", "=1ms",
    "50%", "101%", "-1%", "0600", "777", "1777", "json", "text",
];

impl Values<'_> {
    pub(super) fn arguments(&self, random: &mut fastrand::Rng) -> Vec<OsString> {
        let mut arguments = Vec::new();
        if let Some(command) = random.choice(&self.program.commands) {
            arguments.push(OsString::from(&command.name));
            // One wrong value is all that is noticed. The others should let the program get far.
            let wrong = random.usize(0..5);
            for count in 0..random.usize(0..6) {
                if let Some(option) = random.choice(&command.options) {
                    self.option(option, count == wrong, &mut arguments, random);
                }
            }
            match command.name.as_str() {
                // Or many would meet on the port that is the default.
                "serve" | "peer" if random.u8(0..8) > 0 => {
                    arguments.extend(["--listen", "127.0.0.1:0"].map(OsString::from));
                }
                "load" if random.u8(0..8) > 0 => {
                    arguments.extend(["--target", self.address].map(OsString::from));
                }
                "client" if random.bool() => {
                    let (host, port) = self.address.rsplit_once(':').unwrap_or_default();
                    arguments.extend([host, port].map(OsString::from));
                }
                "merge" => arguments.extend(["file", "other"].map(OsString::from)),
                _ => {}
            }
            for _ in 0..random.usize(0..4).saturating_sub(2) {
                let at = random.usize(1..=arguments.len());
                arguments.insert(at, self.value(random));
            }
        }
        match random.u8(0..30) {
            0 => arguments.clear(),
            1 if !arguments.is_empty() => {
                let at = random.usize(0..arguments.len());
                let argument = mutated(arguments[at].as_bytes(), random);
                arguments[at] = OsString::from_vec(harmless(argument));
            }
            2 => arguments.push(OsString::from("--help")),
            _ => {}
        }
        arguments
    }

    fn option(
        &self,
        option: &Opt,
        wrong: bool,
        arguments: &mut Vec<OsString>,
        random: &mut fastrand::Rng,
    ) {
        let name = OsStr::new(&option.name);
        let Some(values) = &option.values else {
            arguments.push(name.to_owned());
            return;
        };
        let value = match random.choice(values) {
            Some(value) if !wrong && value == SILENT => OsString::from(self.address),
            Some(value) if !wrong => OsString::from(value),
            _ => self.value(random),
        };
        if random.bool() && option.name.starts_with("--") {
            arguments.push([name, OsStr::new("="), &value].into_iter().collect());
        } else {
            arguments.extend([name.to_owned(), value]);
        }
    }

    fn value(&self, random: &mut fastrand::Rng) -> OsString {
        match random.u8(0..10) {
            0 => OsString::from_vec(harmless(bytes(random, 40))),
            1 => OsString::from(self.address),
            2 => {
                let odd = random.choice(ODD).map_or("", |value| value);
                OsString::from_vec(harmless(mutated(odd.as_bytes(), random)))
            }
            3 if random.bool() => OsString::from("x".repeat(random.usize(100..5000))),
            _ => OsString::from(random.choice(ODD).map_or("", |value| value)),
        }
    }
}

/// Variables that the programs, or what they are made of, read.
pub(super) fn variable(random: &mut fastrand::Rng) -> (&'static str, OsString) {
    const VARIABLES: &[(&str, &[&str])] = &[
        (
            "RUST_LOG",
            &[
                "info",
                "=",
                ",,",
                "[{",
                "a[b{c=\"(\"}]=trace",
                "ringlab=9",
                "trace",
                "off",
            ],
        ),
        ("NO_COLOR", &["", "1"]),
        ("CLICOLOR_FORCE", &["1"]),
        ("TERM", &["dumb", ""]),
        ("COLUMNS", &["0", "1", "18446744073709551615", "-1"]),
        ("LINES", &["0", "18446744073709551615"]),
        ("NOTIFY_SOCKET", &["", "@", "@x", "file", "/", "vsock:2:1"]),
        (
            "LISTEN_FDS",
            &["0", "1", "9", "9999", "-1", "18446744073709551616", ""],
        ),
        ("LISTEN_PID", &["0", "1", "-1", "x"]),
        ("LISTEN_FDNAMES", &["a:b", ":::"]),
        (
            "TZ",
            &["", ":", ":file", "<+99>-99", "UTC0UTC", "Nowhere/Land"],
        ),
        ("TMPDIR", &["", "missing", "directory", "file"]),
        ("HOME", &["", "missing"]),
        ("LANG", &["C", "x"]),
        ("RUST_BACKTRACE", &["1", "full"]),
        (
            "RUST_MIN_STACK",
            &["0", "x", "18446744073709551615", "9223372036854775807"],
        ),
    ];
    let (name, values) = VARIABLES[random.usize(0..VARIABLES.len())];
    let value = match random.u8(0..6) {
        0 => OsString::from_vec(harmless(bytes(random, 40))),
        1 => OsString::from("x".repeat(random.usize(100..5000))),
        _ => OsString::from(values[random.usize(0..values.len())]),
    };
    (name, value)
}

pub(super) fn bytes(random: &mut fastrand::Rng, most: usize) -> Vec<u8> {
    let length = random.usize(0..=most);
    (0..length).map(|_| random.u8(..)).collect()
}

/// The same without what ends an argument, or leads out of the run's directory.
fn harmless(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.retain(|byte| ![0, b'/', b'.', b'~'].contains(byte));
    bytes
}

/// `bytes`, and something has happened to them.
pub(super) fn mutated(bytes: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.usize(0..4) {
        let start = random.usize(0..=bytes.len());
        let end = random.usize(start..=bytes.len().min(start + 40));
        match random.u8(0..5) {
            0 => bytes.truncate(start),
            1 => drop(bytes.drain(start..end)),
            2 => bytes = [&bytes[..end], &bytes[start..]].concat(),
            3 => {
                let odd = random.choice(ODD).map_or("", |value| value);
                bytes.splice(start..end, odd.bytes());
            }
            _ => {
                for byte in &mut bytes[start..end] {
                    *byte = random.u8(..);
                }
            }
        }
    }
    bytes
}
