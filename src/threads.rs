//! Threads as this program needs them.

use std::thread::Builder;

/// A stack, in bytes, for everything but a connection: what the standard library gives unless
/// RUST_MIN_STACK says otherwise.
const STACK: usize = 2 << 20;

/// A thread with a name, and a stack that is large enough: of whatever stands in the environment
/// one could overflow, and of an absurdly large one `std::thread::spawn` panics.
pub fn named(name: impl Into<String>) -> Builder {
    Builder::new().name(name.into()).stack_size(STACK)
}
