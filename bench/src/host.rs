//! Where servers and clients run, and the processes of a server there.
//!
//! A [`Place`](place::Place) is one end of a path: this machine as it is found, or one of two
//! network namespaces that stand for [two hosts](namespaces). A [`Server`](server::Server) runs at
//! one and is kept together by a [keeper], so that whatever it has started is measured, and gone
//! when it should be.

mod descendants;
pub mod keeper;
mod listener;
pub mod namespaces;
pub mod place;
pub mod server;

use std::iter;

/// A name for something of this program's that others see, and that nobody else has.
pub(crate) fn unique_name() -> String {
    let letters: String = iter::repeat_with(fastrand::alphanumeric).take(8).collect();
    format!("ringlab-{letters}")
}
