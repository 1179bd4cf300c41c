//! The paths that a comparison takes: where servers and the client are, and what lies between.

use anyhow::Result;

use crate::host::namespaces;
use crate::host::place::Place;
use crate::processors::Processors;
use crate::report::Path;

/// A path, and its two ends.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) path: Path,
    pub(super) server: Place,
    pub(super) client: Place,
}

impl Route {
    fn loopback() -> Self {
        Self {
            path: Path::Loopback,
            server: Place::here(),
            client: Place::here(),
        }
    }

    fn hosts(server: &Processors, client: &Processors) -> Result<Self> {
        let (server, client) = namespaces::join_two(server, client)?;
        Ok(Self {
            path: Path::Hosts,
            server,
            client,
        })
    }
}

/// The routes for these paths, and a warning for each that cannot be had; at least the one over
/// loopback, which always can.
pub(super) fn routes(
    paths: &[Path],
    server: &Processors,
    client: &Processors,
) -> (Vec<Route>, Vec<String>) {
    let (mut routes, mut warnings) = (Vec::new(), Vec::new());
    for &path in paths {
        match path {
            Path::Loopback => routes.push(Route::loopback()),
            Path::Hosts => match Route::hosts(server, client) {
                Ok(route) => routes.push(route),
                Err(error) => warnings.push(format!(
                    "no path between hosts: {error:#}. Over loopback whoever sends does the \
                     other’s receiving, so that what a server costs, and who wins, may differ \
                     from what it is between hosts: run as root of the machine, or across machines"
                )),
            },
        }
    }
    if routes.is_empty() {
        routes.push(Route::loopback());
    }
    (routes, warnings)
}
