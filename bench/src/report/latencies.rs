//! Latencies in a report: HdrHistogram's own encoding, which every implementation of it reads.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Latencies in nanoseconds: an HdrHistogram, version 2, compressed, in base 64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Latencies(String);

impl Latencies {
    /// What is in a histogram; `None` if nothing is.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let mut bytes = Vec::new();
        let written = V2DeflateSerializer::new().serialize(histogram, &mut bytes);
        (!histogram.is_empty() && written.is_ok()).then(|| Self(STANDARD.encode(bytes)))
    }

    /// The histogram; `None` if it is none.
    pub fn histogram(&self) -> Option<Histogram<u64>> {
        let bytes = STANDARD.decode(&self.0).ok()?;
        Deserializer::new().deserialize(&mut bytes.as_slice()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::histogram;

    #[test]
    fn what_is_read_is_what_was_written() {
        let mut written = histogram();
        assert_eq!(Latencies::of(&written), None);
        for latency in [1_000, 20_000, 20_001, 3_000_000_000] {
            written.record(latency).unwrap();
        }
        let read = Latencies::of(&written).unwrap().histogram().unwrap();
        assert_eq!(read, written);
        assert_eq!(Latencies("?".to_owned()).histogram(), None);
    }
}
