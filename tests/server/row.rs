//! The table's rows: what every case is run against.

use std::env;

use libtest_mimic::{Completion, Trial};
use ringlab::engine::Engine;

/// One line of the table: an engine, and how it is started.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) engine: Engine,
    pub(crate) args: Vec<&'static str>,
}

impl Row {
    /// Whether it serves more than one client at a time.
    pub(crate) fn concurrent(&self) -> bool {
        self.engine != Engine::Sequential
    }

    /// How much of the `usual` amount of input is enough. With a system call for every byte of a
    /// reply, a thirtieth meets as many chances to go wrong.
    pub(crate) fn enough(&self, usual: usize) -> usize {
        if self.concurrent() { usual } else { usual / 30 }
    }
}

/// Every engine as it is, and variants of some.
pub(crate) fn rows() -> Vec<Row> {
    let engine_as_it_is = |engine: Engine| Row {
        name: engine.name(),
        engine,
        args: vec!["--engine", engine.name()],
    };
    let uring = |name, options: &[&'static str]| Row {
        name,
        engine: Engine::Uring,
        args: [&["--engine", "uring"], options].concat(),
    };
    let mut rows: Vec<_> = Engine::ALL.into_iter().map(engine_as_it_is).collect();
    rows.extend([
        // What is left on the oldest kernel, so that the fallbacks are tested on every one.
        uring("uring-5.10", &["--uring-features", "none"]),
        // The submission queue is always full and the completion queue overflows.
        uring("uring-tiny-ring", &["--uring-entries", "2"]),
    ]);
    rows
}

/// A test of an engine. Without the engine it shows as ignored, with the reason; CI does not accept
/// that.
pub(crate) fn trial(name: String, engine: Engine, run: impl FnOnce() + Send + 'static) -> Trial {
    let in_ci = env::var_os("CI").is_some();
    let unavailable = engine.availability().err();
    Trial::ignorable_test(name, move || {
        match unavailable {
            None => run(),
            Some(reason) if in_ci => return Err(reason.to_string().into()),
            Some(reason) => return Ok(Completion::ignored_with(reason.cause)),
        }
        Ok(Completion::Completed)
    })
}

/// Tests that are about no engine in particular, named after their module.
pub(crate) fn trials_of_no_row(
    module: &str,
    cases: impl IntoIterator<Item = (&'static str, fn())>,
) -> Vec<Trial> {
    let trial = |(name, run): (_, fn())| {
        Trial::test(format!("{module}::{name}"), move || {
            run();
            Ok(())
        })
    };
    cases.into_iter().map(trial).collect()
}
