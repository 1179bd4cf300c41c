//! ringlab serves one small TCP protocol through several models of concurrency, io_uring first,
//! so that they can be read side by side and measured against each other.
//!
//! # A tour of the house
//!
//! Imports run downward only; from the bottom up:
//!
//! - [`framing`] is the protocol: a Mealy machine that turns received bytes into the reply, in
//!   place. It does no I/O and knows nothing.
//! - [`shutdown`] is one signal that every engine can wait for, and [`worker`] is everything that
//!   an engine is handed: listener, limits, that signal, counters.
//! - [`buffer`] decides how large the next read should be, and [`idle`] when nobody moves any
//!   more; [`socket_options`] is what a connection's socket is set to.
//! - [`features`] names what newer kernels add to io_uring.
//! - [`engine`] is the point of it all. Each of its files is one model of I/O, one function over
//!   one [`worker::Worker`]: start with `engine/threads.rs`, where a conversation reads from top
//!   to bottom, then see in `engine/tokio_uring.rs` what becomes of it when the kernel completes
//!   operations instead of blocking in them.
//! - [`diagnosis`] tells why io_uring is not to be had and what to do about it.
//! - [`endpoint`] is where to listen, [`address`] how people write that, [`service_manager`] what
//!   systemd has to do with it, [`signals`] what whoever started the process has made of its
//!   signals, [`threads`] how threads are started, and [`server`] puts it all together: bind, start
//!   workers, wait for a signal, drain, report.
//! - `metrics` shows the workers' counters to Prometheus (with the feature of that name).
//! - [`probe`] reports what this machine allows: every feature, every engine, found by trying.
//! - [`client`] is the client of the tutorial that the protocol comes from.
//! - [`cli`] is the command line, and [`log`] where log lines go.

// They panic where they cannot write.
#![deny(clippy::print_stderr, clippy::print_stdout)]

pub mod address;
pub mod buffer;
pub mod cli;
pub mod client;
pub mod diagnosis;
pub mod endpoint;
pub mod engine;
pub mod features;
pub mod framing;
pub mod idle;
pub mod log;
#[cfg(feature = "metrics")]
pub mod metrics;
mod poll;
pub mod probe;
pub mod server;
pub mod service_manager;
pub mod shutdown;
pub mod signals;
pub mod socket_options;
pub mod threads;
pub mod worker;
