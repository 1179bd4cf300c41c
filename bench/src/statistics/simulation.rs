//! How good the statistics are, where the truth is known.
