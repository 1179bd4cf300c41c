//! What a server has used: its [processes], the [calls] it made, the memory that its
//! [control group](control_group) is charged for, and what the processors of its side did while they
//! were not [idle].

pub mod calls;
pub mod control_group;
pub mod idle;
pub mod processes;
