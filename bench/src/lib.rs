//! What ringlab is measured with.
//!
//! [`inputs`] are the byte streams that the benchmarks in `benches/` feed to the framer.

pub mod cli;
pub mod compare;
pub mod inputs;
pub mod load;
pub mod peers;
pub mod processors;
pub mod report;
pub mod statistics;
pub mod tape;
