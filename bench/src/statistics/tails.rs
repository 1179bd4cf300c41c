//! Percentiles of the latencies of all rounds.
