//! Who takes part in a comparison, as it is written on the command line.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;
use ringlab::engine::Engine;
use ringlab::features::Choice;

use crate::host::server::Invocation;
use crate::load::Workload;
use crate::peers::Peer;
use crate::report::{Transport, Work};

/// What stands for the port in a command line.
const PORT: &str = "{port}";

/// What stands for the address.
const ADDRESS: &str = "{address}";

/// The name of a Unix socket in its directory.
pub(super) const SOCKET: &str = "server.sock";

/// A server to measure: `epoll`, `uring:-defer-taskrun`, `peer:monoio` or `NAME=COMMAND {port}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contender {
    /// How it is called in reports.
    pub name: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// One of ringlab's, with what `--uring-features` says.
    Engine(Engine, Option<String>),
    Peer(Peer),
    /// A program and its arguments, one of which holds [`PORT`], and maybe one [`ADDRESS`].
    Command(Vec<String>),
}

impl Contender {
    /// One of ringlab's engines.
    pub fn engine(engine: Engine) -> Self {
        Self {
            name: engine.name().to_owned(),
            kind: Kind::Engine(engine, None),
        }
    }

    /// The engine `uring` with a choice of features.
    pub fn uring(features: &str) -> Self {
        Self {
            name: format!("uring:{features}"),
            kind: Kind::Engine(Engine::Uring, Some(features.to_owned())),
        }
    }

    /// What the engine `uring` is told about features; `None` for other servers.
    pub fn features(&self) -> Option<Choice> {
        match &self.kind {
            Kind::Engine(Engine::Uring, None) => Some(Choice::AUTO),
            Kind::Engine(Engine::Uring, Some(features)) => features.parse().ok(),
            _ => None,
        }
    }

    /// Why it cannot be asked to do this; `None` if it can.
    pub fn excuse(&self, work: &Work) -> Option<&'static str> {
        match self.kind {
            // Those that wait would wait for as long as the first is there.
            Kind::Engine(Engine::Sequential, _)
                if work.connections > 1 && work.workload != Workload::Churn =>
            {
                Some("serves one client at a time")
            }
            Kind::Command(_) if work.transport == Transport::Unix => {
                Some("its command line knows a port only")
            }
            _ => None,
        }
    }

    /// The command line of a server: over a Unix socket in `directory`, or over TCP at `address`,
    /// where clients reach it, and on `port` if it has to be told one that is free.
    pub(super) fn invocation(
        &self,
        workers: usize,
        directory: Option<PathBuf>,
        address: IpAddr,
        port: u16,
    ) -> Invocation {
        let listen = match &directory {
            None => OsString::from(SocketAddr::new(address, 0).to_string()),
            Some(directory) => {
                let mut endpoint = OsString::from("unix:");
                endpoint.push(directory.join(SOCKET));
                endpoint
            }
        };
        let common = [
            "--listen".into(),
            listen,
            "--workers".into(),
            workers.to_string().into(),
        ];
        match &self.kind {
            Kind::Engine(engine, features) => {
                let mut arguments: Vec<OsString> = vec![
                    "serve".into(),
                    "-q".into(),
                    "--engine".into(),
                    engine.name().into(),
                ];
                if let Some(features) = features {
                    arguments.push(format!("--uring-features={features}").into());
                }
                arguments.extend(common);
                Invocation {
                    program: None,
                    arguments,
                    port: None,
                    directory,
                    control_group: None,
                }
            }
            Kind::Peer(peer) => {
                let mut arguments: Vec<OsString> = vec!["peer".into(), peer.name().into()];
                arguments.extend(common);
                Invocation {
                    program: None,
                    arguments,
                    port: None,
                    directory,
                    control_group: None,
                }
            }
            Kind::Command(words) => {
                let mut words = words
                    .iter()
                    .map(|word| word.replace(PORT, &port.to_string()))
                    .map(|word| word.replace(ADDRESS, &address.to_string()));
                Invocation {
                    program: words.next().map(OsString::from),
                    arguments: words.map(OsString::from).collect(),
                    port: Some(port),
                    directory,
                    control_group: None,
                }
            }
        }
    }

    /// The command line in words, over TCP, with address and port left open.
    pub(super) fn command_line(&self, workers: usize) -> String {
        if let Kind::Command(words) = &self.kind {
            let words = words.iter().map(String::as_str);
            return shlex::try_join(words).unwrap_or_default();
        }
        let anywhere = Ipv4Addr::UNSPECIFIED.into();
        let invocation = self.invocation(workers, None, anywhere, 0);
        let words = invocation
            .arguments
            .iter()
            .map(|word| word.to_string_lossy());
        ["ringlab-bench".into()]
            .into_iter()
            .chain(words)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl FromStr for Contender {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kind = if let Some((name, command)) = text.split_once('=')
            && is_name(name)
        {
            return Ok(Self {
                name: name.to_owned(),
                kind: Kind::Command(split(command)?),
            });
        } else if let Some(peer) = text.strip_prefix("peer:") {
            Kind::Peer(Peer::from_str(peer, false).map_err(|_| {
                let names = Peer::ALL.map(Peer::name).join(", ");
                format!("no peer is called `{peer}`; there are {names}")
            })?)
        } else if let Some((engine, features)) = text.split_once(':') {
            if engine != Engine::Uring.name() {
                return Err("only uring takes features".to_owned());
            }
            features.parse::<Choice>()?;
            Kind::Engine(Engine::Uring, Some(features.to_owned()))
        } else {
            Kind::Engine(
                Engine::from_str(text, false).map_err(|_| {
                    let names = Engine::ALL.map(Engine::name).join(", ");
                    format!(
                        "expected an engine ({names}), uring:FEATURES, peer:NAME, or \
                         NAME=COMMAND with {PORT} in it"
                    )
                })?,
                None,
            )
        };
        Ok(Self {
            name: text.to_owned(),
            kind,
        })
    }
}

/// Whether it may stand before the `=` of a command.
fn is_name(text: &str) -> bool {
    let is_fine = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    !text.is_empty() && text.chars().all(is_fine)
}

fn split(command: &str) -> Result<Vec<String>, String> {
    let words = shlex::split(command).filter(|words| !words.is_empty());
    let words = words.ok_or("the command is empty, or a quotation mark in it is not closed")?;
    if !words.iter().any(|word| word.contains(PORT)) {
        return Err(format!(
            "the command must contain {PORT}, in place of which comes the port to listen on"
        ));
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contenders_are_engines_variants_peers_and_commands() {
        for text in [
            "epoll",
            "uring:-defer-taskrun",
            "uring:none,+provided-buffers",
            "peer:monoio",
        ] {
            let contender: Contender = text.parse().unwrap();
            assert_eq!(contender.name, text);
        }
        let mine: Contender = "mine=./server {address}:{port} 'a b'".parse().unwrap();
        let address = Ipv4Addr::LOCALHOST.into();
        assert_eq!(mine.name, "mine");
        let invocation = mine.invocation(1, None, address, 1234);
        assert_eq!(invocation.program.unwrap(), "./server");
        assert_eq!(invocation.arguments, ["127.0.0.1:1234", "a b"]);
    }

    #[test]
    fn what_is_no_contender_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "expected an engine"),
            ("fast", "expected an engine"),
            ("epoll:-bundles", "only uring"),
            ("uring:-nothing", "nothing"),
            ("peer:nobody", "monoio, compio"),
            ("mine=./server", "{port}"),
            ("mine=", "empty"),
            ("mine='{port}", "quotation"),
        ] {
            let error = text.parse::<Contender>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
