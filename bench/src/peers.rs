//! The protocol on other runtimes with completion-based I/O, to compare with.
