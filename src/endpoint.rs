//! Where to listen: a TCP address or a Unix socket; how it is written, bound and given back.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Shutdown as Direction, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{FlockOperation, Mode, flock};
use rustix::io::Errno;
use rustix::process::umask;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::socket_options::SocketOptions;

/// How many connections may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

/// The mode of a Unix socket's file unless asked for another: for this user only.
pub const UNIX_MODE: u32 = 0o600;

/// How long an address may stay in use by a process that was killed: the kernel takes down its
/// rings, and with them a listener that they were accepting from, some time after the process.
const LINGERING: Duration = Duration::from_secs(1);

/// How long to wait for the lock that guards the replacement of a stale socket file.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// A place to listen: `127.0.0.1:9090`, `[::1]:9090` or `unix:/run/ringlab.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP address; port 0 lets the kernel pick one, see `ip(7)`.
    Tcp(SocketAddr),
    /// The path of a Unix stream socket, see `unix(7)`.
    Unix(PathBuf),
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err("the path after `unix:` is missing".to_owned())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            "expected ADDRESS:PORT such as 127.0.0.1:9090, [IPV6]:PORT, or unix:PATH".to_owned()
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A socket that listens, and what must be undone when it no longer does.
#[derive(Debug)]
pub struct Listening {
    /// The listening socket, in blocking mode.
    pub socket: Socket,
    /// Where clients reach it: the endpoint asked for, with the real port.
    pub endpoint: Endpoint,
    /// Whether somebody else listens on it too and goes on when this process no longer does: it
    /// was passed by a service manager.
    pub inherited: bool,
    /// The Unix socket's file, removed when this is dropped; an inherited one stays.
    file: Option<SocketFile>,
}

impl Listening {
    /// Listens on a socket that was passed to this process.
    ///
    /// Connections that have waited since before this moment keep the socket's former setting of
    /// Nagle's algorithm; if that is another one, a warning tells.
    ///
    /// # Errors
    ///
    /// When its address is neither an IP address nor a path.
    pub fn inherit(socket: Socket, nodelay: bool) -> Result<Self> {
        let local = socket.local_addr()?;
        let endpoint = if let Some(address) = local.as_socket() {
            if socket.tcp_nodelay()? != nodelay {
                tracing::warn!("set NoDelay={nodelay} in the socket unit, for the first clients");
                socket.set_tcp_nodelay(nodelay)?;
            }
            Endpoint::Tcp(address)
        } else if let Some(path) = local.as_pathname() {
            Endpoint::Unix(path.to_owned())
        } else {
            bail!("it has no path; abstract Unix sockets are not served");
        };
        // Whoever had it before may have wanted it otherwise; the mode belongs to the socket, not
        // to the descriptor.
        socket.set_nonblocking(false)?;
        Ok(Self {
            socket,
            endpoint,
            inherited: true,
            file: None,
        })
    }

    /// Whether an accepted connection may lack the options that the engine wants for its socket.
    pub fn hands_nothing_down(&self) -> bool {
        self.inherited || matches!(self.endpoint, Endpoint::Unix(_))
    }

    /// Stops listening, for all who share the socket, and turns away who waits in the backlog.
    ///
    /// An inherited socket is let go of only. To shut it down would take it from the service
    /// manager as well, for whom that is a failure of the socket's unit; and who waits in its
    /// backlog waits for the next server.
    pub fn close(self) {
        if self.inherited {
            return;
        }
        // The file first: a server that starts now sees either a socket that somebody listens on
        // or none at all, never a stale one that it would replace while this process removes it.
        drop(self.file);
        let _ = self.socket.shutdown(Direction::Both);
        // TCP has reset who waited in the backlog. A Unix socket keeps them waiting until its last
        // descriptor is closed, so they are turned away one by one.
        if self.socket.set_nonblocking(true).is_ok() {
            while self.socket.accept().is_ok() {}
        }
    }
}

impl Endpoint {
    /// Where to listen when nobody has said.
    pub const DEFAULT: Self = Self::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090));

    /// Binds and listens.
    ///
    /// TCP connections are accepted with `options`, which Linux hands down from the listening
    /// socket.
    ///
    /// Only those can connect to a Unix socket to whom `unix_mode` gives the right to write to its
    /// file, see `unix(7)`; the process's umask takes no part.
    ///
    /// SO_REUSEADDR allows a restart while old connections linger in TIME_WAIT; SO_REUSEPORT is
    /// never set, so a second server on the same address fails. The file of a Unix socket on which
    /// nobody listens any more is replaced. An address in use is tried again for a second, because
    /// a ring may outlive its process for a moment.
    ///
    /// # Errors
    ///
    /// When the address cannot be had: in use (by another process, or, for a Unix socket, by a
    /// file that is no socket), not an address of this host, or not permitted; see `bind(2)`.
    pub fn listen(&self, options: SocketOptions, unix_mode: u32) -> Result<Listening> {
        let listen = || match self {
            Self::Tcp(address) => listen_tcp(*address, options),
            Self::Unix(path) => listen_unix(path, unix_mode),
        };
        let deadline = Instant::now() + LINGERING;
        let mut listening = listen();
        while listening.as_ref().is_err_and(is_in_use) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(50));
            listening = listen();
        }
        if listening.as_ref().is_err_and(is_in_use) {
            listening = Err(anyhow!(
                "address already in use: another program listens there, perhaps another ringlab; \
                 stop it or choose another address with --listen"
            ));
        }
        listening.with_context(|| format!("cannot listen on {self}"))
    }
}

fn listen_tcp(address: SocketAddr, options: SocketOptions) -> Result<Listening> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(options.nodelay)?;
    options.set_on(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let local = socket.local_addr()?;
    let local = local.as_socket().context("the socket has no IP address")?;
    Ok(Listening {
        socket,
        endpoint: Endpoint::Tcp(local),
        inherited: false,
        file: None,
    })
}

fn listen_unix(path: &Path, mode: u32) -> Result<Listening> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Between finding a stale file and listening in its place, another ringlab that starts at the
    // same moment could do the same and remove what this one has just bound.
    let _lock = lock_directory_of(path)?;
    remove_if_stale(path, &address)?;
    bind_with_mode(&socket, &address, mode)?;
    let file = SocketFile::of(path)?;
    socket.listen(BACKLOG)?;
    Ok(Listening {
        socket,
        endpoint: Endpoint::Unix(path.to_owned()),
        inherited: false,
        file: Some(file),
    })
}

/// Binds a Unix socket, whose file bind(2) makes with every right that the umask leaves.
///
/// To change the mode afterwards would follow a link that somebody has put in the file's place
/// meanwhile, to a file of their choice. The umask is one for all threads: this holds others up who
/// bind, and a file that anybody else makes at this moment has no more rights than the socket.
fn bind_with_mode(socket: &Socket, address: &SockAddr, mode: u32) -> io::Result<()> {
    static UMASK: Mutex<()> = Mutex::new(());
    let _guard = UMASK.lock().unwrap_or_else(PoisonError::into_inner);
    let former = umask(Mode::from_bits_truncate(!mode & 0o777));
    let bound = socket.bind(address);
    umask(former);
    bound
}

fn is_in_use(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// Holds the lock until dropped. Anyone who may read the directory can lock it, so the wait for
/// it is short.
///
/// `None` where it cannot be had: some file systems know no locks (NFS without its lock manager,
/// 9p, virtiofs), some directories may be written but not read. The lock is for two servers that
/// start at the same moment; a single one is no worse off without it.
fn lock_directory_of(path: &Path) -> Result<Option<File>> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let without = |error: io::Error| {
        tracing::warn!(
            directory = %directory.display(),
            %error,
            "cannot lock the directory: start no two servers on this socket at the same time"
        );
        Ok(None)
    };
    let file = match File::open(directory) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return without(error),
        Err(error) => {
            return Err(error)
                .with_context(|| format!("cannot open the directory {}", directory.display()));
        }
    };
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(file)),
            Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            Err(error) => return without(error.into()),
        }
        if Instant::now() >= deadline {
            bail!("another program holds a lock on the directory; see lslocks(8) for which");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Removes the socket file that a server which did not exit cleanly left behind.
fn remove_if_stale(path: &Path, address: &SockAddr) -> Result<()> {
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !metadata.file_type().is_socket() {
        bail!("a file that is not a socket is in the way; choose another path or remove it");
    }
    // Non-blocking, because connecting to a server whose backlog is full would wait for it; that
    // is EAGAIN now, and means that somebody listens.
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        // Somebody has bound it who may listen yet: two servers that start at once, one of which
        // knows nothing of the lock.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && is_bound(path) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).context("cannot remove the stale socket file")
        }
        // Left to bind(2), which says what is the matter.
        _ => Ok(()),
    }
}

/// Whether a process has a socket bound to `path` that may listen, or could, as far as can be seen:
/// the kernel tells the paths of its network namespace in the words of those who bound them.
fn is_bound(path: &Path) -> bool {
    let whole = fs::canonicalize(path);
    let is_it = |found: &Path| found == path || whole.as_ref().is_ok_and(|whole| found == whole);
    let sockets = fs::read("/proc/net/unix").unwrap_or_default();
    sockets
        .split(|&byte| byte == b'\n')
        .filter_map(path_of_unconnected)
        .any(is_it)
}

/// The path in a line of /proc/net/unix, of a socket that is not a connection: those keep the path
/// of the listener that they were accepted from. See `proc_net(5)`.
fn path_of_unconnected(line: &[u8]) -> Option<&Path> {
    // SS_UNCONNECTED of the kernel's uapi/linux/net.h.
    const UNCONNECTED: &[u8] = b"01";
    // Number, reference count, protocol, flags, type, state; then the inode, which is padded.
    let mut columns = line.splitn(7, |&byte| byte == b' ');
    if columns.nth(5)? != UNCONNECTED {
        return None;
    }
    let rest = columns.next()?.trim_ascii_start();
    let space = rest.iter().position(|&byte| byte == b' ')?;
    Some(Path::new(OsStr::from_bytes(&rest[space + 1..])))
}

/// The file of a Unix socket that this process bound.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode: whoever put another file there since keeps it.
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: identity(path)?,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket file");
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = path.symlink_metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_shown_as_they_are_written() {
        for text in ["127.0.0.1:9090", "[::1]:0", "unix:/run/ringlab.sock"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for text in [
            "",
            "9090",
            "127.0.0.1",
            "localhost:9090",
            "::1:9090x",
            "unix:",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
