//! Whether rounds depend on each other, or drift.
