//! Two hosts on one machine: network namespaces joined by a veth pair.
//!
//! On the loopback device the kernel runs the receiver's half of TCP on the sender's processor and
//! charges it to the sender. A veth pair does the same, unless each end's receive queue is steered
//! to its own side's processors (receive packet steering, `rps_cpus`; see
//! Documentation/networking/scaling.rst of the kernel): then every packet crosses to the other
//! side by an interrupt between processors, as it would by a network card's, and nothing of the
//! one side's work is done by the other.
//!
//! The namespaces have no name, and so no trace in the file system: they, and the links with them,
//! are gone when nobody is in them and this program holds them no longer, however it ends.

use std::fs::{self, File};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::panic;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use rtnetlink::{Handle, LinkUnspec, LinkVeth};

use super::place::{OWN_NETWORK, Place, join};
use crate::processors::Processors;
use ringlab::threads;

/// The addresses of the two ends: from the block for documentation (RFC 5737), which no network
/// that one could wish to reach from in there uses.
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const PREFIX_LENGTH: u8 = 24;

/// The devices at the two ends.
const DEVICES: [&str; 2] = ["ringlab-server", "ringlab-client"];

/// Makes two hosts: where the server runs, and where the client runs.
///
/// # Errors
///
/// Without root, whatever `unshare(2)`, `mount(2)`, `rtnetlink(7)` or the steering say. (In a user
/// namespace all of it works but the steering, which the kernel leaves to root of the machine.)
pub fn join_two(server: &Processors, client: &Processors) -> Result<(Place, Place)> {
    let networks = [network()?, network()?];
    let [ours, theirs] = &networks;
    within(ours, || {
        netlink(async |handle| {
            let [near, far] = DEVICES;
            let pair = LinkVeth::new(near, far).build();
            handle.link().add(pair).execute().await?;
            let to = theirs.as_raw_fd();
            let moved = LinkUnspec::new_with_name(far).setns_by_fd(to).build();
            handle.link().set(moved).execute().await
        })
    })
    .context("cannot join two network namespaces by a veth pair")?;
    let ends = [(SERVER, server), (CLIENT, client)];
    for ((network, device), (address, processors)) in networks.iter().zip(DEVICES).zip(ends) {
        within(network, || {
            set_up(device, address.into())?;
            steer(device, processors)
        })?;
    }
    let [server, client] = networks;
    Ok((
        Place::within(server, SERVER.into()),
        Place::within(client, CLIENT.into()),
    ))
}

/// A new network namespace.
fn network() -> Result<File> {
    on_a_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).context(
            "cannot make a network namespace (unshare(2)), which takes root: CAP_SYS_ADMIN",
        )?;
        File::open(OWN_NETWORK).context("cannot open a network namespace")
    })
}

/// Does something in a network namespace.
fn within<T: Send>(network: &File, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    on_a_thread(|| {
        join(network).context("cannot enter a network namespace")?;
        act()
    })
}

/// On a thread that ends with it, and with all that it has changed of itself.
fn on_a_thread<T: Send>(act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = threads::named("namespace")
            .spawn_scoped(scope, act)
            .context("cannot start a thread")?;
        thread
            .join()
            .unwrap_or_else(|cause| panic::resume_unwind(cause))
    })
}

/// Talks to the kernel about the links of this thread's namespace, see `rtnetlink(7)`.
fn netlink<F>(act: impl FnOnce(Handle) -> F) -> Result<()>
where
    F: Future<Output = Result<(), rtnetlink::Error>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(act(handle).await?)
    })
}

/// Gives a device its address, and starts it.
fn set_up(device: &str, address: IpAddr) -> Result<()> {
    // Nobody speaks IPv6 here, but the kernel by itself, at moments of its own.
    let quiet = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
    if Path::new(&quiet).exists() {
        fs::write(&quiet, "1").with_context(|| format!("cannot write {quiet}"))?;
    }
    let index = if_nametoindex(device)?;
    let loopback = if_nametoindex("lo")?;
    netlink(async |handle| {
        let up = |index| LinkUnspec::new_with_index(index).up().build();
        let addresses = handle.address();
        addresses
            .add(index, address, PREFIX_LENGTH)
            .execute()
            .await?;
        handle.link().set(up(loopback)).execute().await?;
        handle.link().set(up(index)).execute().await
    })
    .with_context(|| format!("cannot set up the device {device}"))
}

/// Has all that a device receives worked off by these processors.
fn steer(device: &str, processors: &Processors) -> Result<()> {
    // A device's queues are in the sysfs of its own namespace, which shows where it is mounted
    // anew: for this thread only.
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace (unshare(2))")?;
    let none = None::<&str>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).context("cannot make mounts private")?;
    mount(none, "/sys", Some("sysfs"), MsFlags::empty(), none).context("cannot mount sysfs")?;
    let queue = format!("/sys/class/net/{device}/queues/rx-0/rps_cpus");
    fs::write(&queue, processors.mask()).with_context(|| {
        format!(
            "cannot steer what {device} receives to processors {processors} ({queue}): it takes \
             root of the machine, and a kernel with CONFIG_RPS"
        )
    })
}
