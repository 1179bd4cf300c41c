//! Where to listen or to connect, as people write it: names are looked up, and so are the names of
//! IPv6 zones.

use std::fmt;
use std::net::{IpAddr, ToSocketAddrs};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow};
use rustix::io::Errno;

use crate::endpoint::{Endpoint, Listening};
use crate::socket_options::SocketOptions;

/// An [`Endpoint`], or the name of one: `localhost:9090`, `[fe80::1%eth0]:9090`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// It needs no looking up.
    Endpoint(Endpoint),
    /// A host that `getaddrinfo(3)` knows, without the brackets of an IPv6 address, and a port.
    Name {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
}

impl Address {
    /// The address of a host's port, where the two are written apart: a name, an IPv4 address or
    /// an IPv6 address, in brackets or not.
    pub fn of(host: &str, port: u16) -> Self {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        match bare.parse::<IpAddr>() {
            Ok(ip) => Self::Endpoint(Endpoint::Tcp((ip, port).into())),
            Err(_) => Self::Name {
                host: bare.to_owned(),
                port,
            },
        }
    }

    /// The endpoints that it stands for, at least one, in the order of preference that RFC 6724
    /// and `gai.conf(5)` have.
    ///
    /// # Errors
    ///
    /// When the host, or the zone, is not known; see `getaddrinfo(3)`.
    pub fn resolve(&self) -> Result<Vec<Endpoint>> {
        match self {
            Self::Endpoint(endpoint) => Ok(vec![endpoint.clone()]),
            Self::Name { host, port } => {
                let addresses = (host.as_str(), *port)
                    .to_socket_addrs()
                    .with_context(|| format!("cannot find an address of {host}"))?;
                let endpoints: Vec<_> = addresses.map(Endpoint::Tcp).collect();
                if endpoints.is_empty() {
                    return Err(anyhow!("{host} has no address"));
                }
                Ok(endpoints)
            }
        }
    }

    /// Connects to one after the other until `connect` has succeeded.
    ///
    /// # Errors
    ///
    /// Those of [`Address::resolve`], else that of the last attempt.
    pub fn connect<T>(&self, connect: impl FnMut(&Endpoint) -> Result<T>) -> Result<T> {
        self.try_each(connect, |_| true)
    }

    /// Listens on the first that this machine has, as [`Endpoint::listen`] does. One that is in use
    /// is not passed over: there may be no second server on the same address.
    ///
    /// # Errors
    ///
    /// Those of [`Address::resolve`] and of [`Endpoint::listen`].
    pub fn listen(&self, options: SocketOptions, unix_mode: u32) -> Result<Listening> {
        self.bind(|endpoint| endpoint.listen(options, unix_mode))
    }

    /// The same with another way to listen.
    pub(crate) fn bind<T>(&self, bind: impl FnMut(&Endpoint) -> Result<T>) -> Result<T> {
        self.try_each(bind, is_not_here)
    }

    fn try_each<T>(
        &self,
        mut attempt: impl FnMut(&Endpoint) -> Result<T>,
        go_on: fn(&anyhow::Error) -> bool,
    ) -> Result<T> {
        let mut last = Err(anyhow!("{self} has no address"));
        for endpoint in self.resolve()? {
            last = attempt(&endpoint);
            match &last {
                Err(error) if go_on(error) => {}
                _ => break,
            }
        }
        last
    }

    /// Whether it is the path of a Unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self, Self::Endpoint(Endpoint::Unix(_)))
    }
}

/// Whether nobody can listen on an address because this machine does not have it: `localhost` has
/// an IPv6 address where there is no IPv6.
fn is_not_here(error: &anyhow::Error) -> bool {
    let error = error.chain().find_map(|cause| cause.downcast_ref());
    let errno = error.and_then(Errno::from_io_error);
    matches!(errno, Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT))
}

impl From<Endpoint> for Address {
    fn from(endpoint: Endpoint) -> Self {
        Self::Endpoint(endpoint)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let endpoint = text.parse().map(Self::Endpoint);
        if endpoint.is_ok() || text.starts_with("unix:") {
            return endpoint;
        }
        split(text)
            .map(|(host, port)| Self::of(host, port))
            .ok_or_else(|| {
                "expected ADDRESS:PORT such as 127.0.0.1:9090, NAME:PORT, [IPV6]:PORT, or \
                 unix:PATH"
                    .to_owned()
            })
    }
}

/// Host and port of `HOST:PORT`. An IPv6 address has to be in brackets: nobody could tell where it
/// ends.
fn split(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    // A sign is a digit to nobody but `parse`.
    let port = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))?;
    let bracketed = host.len() > 2 && host.starts_with('[') && host.ends_with(']');
    let is_one = bracketed || !host.is_empty() && !host.contains([':', '[', ']', '/']);
    is_one.then_some((host, port.parse().ok()?))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(endpoint) => endpoint.fmt(f),
            Self::Name { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn addresses_are_shown_as_they_are_written() {
        for text in [
            "127.0.0.1:9090",
            "[::1]:0",
            "unix:/run/ringlab.sock",
            "localhost:9090",
            "[fe80::1%lo]:9090",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "9090",
            ":9090",
            "127.0.0.1",
            "127.0.0.1:70000",
            "127.0.0.1:+80",
            "localhost:",
            "::1:9090",
            "[]:9090",
            "http://localhost:9090",
            "unix:",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_and_named_zones_are_looked_up() {
        let port = |endpoint: &Endpoint| match endpoint {
            Endpoint::Tcp(address) => (address.ip().is_loopback(), address.port()),
            Endpoint::Unix(path) => panic!("{}", path.display()),
        };
        let address: Address = "localhost:9090".parse().unwrap();
        let endpoints = address.resolve().unwrap();
        assert!(!endpoints.is_empty());
        assert!(endpoints.iter().all(|found| port(found) == (true, 9090)));

        // The first of this machine's interfaces, which is nobody's but its own.
        let address: Address = "[fe80::1%lo]:9090".parse().unwrap();
        let endpoints = address.resolve().unwrap();
        let zoned = "[fe80::1%1]:9090".parse().map(Endpoint::Tcp).unwrap();
        assert_eq!(endpoints, [zoned]);
    }

    #[test]
    fn every_address_of_a_name_is_tried() {
        let address: Address = "localhost:9090".parse().unwrap();
        let all = address.resolve().unwrap().len();
        let mut tried = 0;
        let refused: Result<()> = address.connect(|_| {
            tried += 1;
            Err(io::Error::from(Errno::CONNREFUSED).into())
        });
        assert!(refused.is_err());
        assert_eq!(tried, all);
        // A server may not evade another one.
        tried = 0;
        let in_use: Result<()> = address.bind(|_| {
            tried += 1;
            Err(io::Error::from(Errno::ADDRINUSE).into())
        });
        assert!(in_use.is_err());
        assert_eq!(tried, 1);
        tried = 0;
        let elsewhere: Result<()> = address.bind(|_| {
            tried += 1;
            Err(io::Error::from(Errno::ADDRNOTAVAIL).into())
        });
        assert!(elsewhere.is_err());
        assert_eq!(tried, all);
    }
}
