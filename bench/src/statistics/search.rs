//! The highest rate that keeps a promise.
