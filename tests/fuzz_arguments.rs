//! Whatever arguments and environment `ringlab` is started with, it does not panic, and it ends.
//!
//! It takes 5 seconds; `RINGLAB_FUZZ_SECONDS` sets another time, and `RINGLAB_FUZZ_SEED` the seed to
//! start with. A failure tells the command that repeats it.

#[path = "fuzz/arguments.rs"]
mod arguments;
#[path = "fuzz/settings.rs"]
mod settings;

use std::time::Duration;

use self::arguments::Program;

#[test]
fn no_argument_or_variable_makes_it_panic_or_hang() {
    let program = Program::new(env!("CARGO_BIN_EXE_ringlab"), Vec::new());
    program.fuzz(Duration::from_secs(5));
}
