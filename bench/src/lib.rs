//! What ringlab is measured with: a load generator for its protocol, and the comparison of servers.
//!
//! From the bottom up:
//!
//! - [`tape`] is what connections send, with the reply that must come back; [`load`] sends it and
//!   measures.
//! - [`statistics`] says what a series of measurements allows to be said.
//! - [`report`] is what a comparison has found: as JSON, in the terminal, as a page.
//! - [`host`] is where servers and clients run, on which [`processors`], and [`meter`] what they
//!   use there.
//! - [`compare`] finds what there is to report: contenders take turns. [`peers`] are contenders on
//!   other runtimes.
//! - [`cli`] is the command line, [`output`] where its results are left.
//!
//! [`inputs`] are the byte streams that the benchmarks in `benches/` feed to the framer.

// They panic where they cannot write.
#![cfg_attr(not(test), deny(clippy::print_stderr, clippy::print_stdout))]

pub mod cli;
pub mod compare;
pub mod host;
pub mod inputs;
pub mod load;
pub mod meter;
pub mod output;
pub mod peers;
pub mod processors;
pub mod report;
pub mod statistics;
pub mod tape;
