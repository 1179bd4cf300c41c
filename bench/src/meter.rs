//! What a server has used: its [processes], the [calls] it made, and what the processors of its
//! side did while they were not [idle].

pub mod calls;
pub mod idle;
pub mod processes;
