//! A piece of work as it is written on the command line.

use std::str::FromStr;

use clap::ValueEnum;

use super::preset::CellPlan;
use crate::load::Workload;
use crate::report::Transport;
use crate::tape::Mix;

/// Requests that connections may have in flight, as the load generator bounds it.
const MOST_IN_FLIGHT: usize = 65_536;

/// More connections than these have no port each, between one address and another.
const MOST_CONNECTIONS: usize = 1_000_000;

/// `WORKLOAD[,connections=N][,size=MIX][,transport=tcp|unix][,pipeline=N][,rate=N|N%]`.
impl FromStr for CellPlan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(',');
        let name = words.next().unwrap_or_default();
        let workload = Workload::from_str(name, false).map_err(|_| {
            let known = Workload::value_variants().iter().map(Workload::to_string);
            let known: Vec<_> = known.collect();
            format!(
                "no workload is called `{name}`; there are {}",
                known.join(", ")
            )
        })?;
        let connections = match workload {
            Workload::Churn => 16,
            Workload::Stream => 4,
            Workload::RequestReply => 64,
            Workload::Idle => 10_000,
        };
        let mut plan = Self::of(workload, Transport::Tcp, connections, "32");
        let mut pairs: Vec<(&str, String)> = Vec::new();
        for word in words {
            match (word.split_once('='), pairs.last_mut()) {
                (Some((key, value)), _) => pairs.push((key, value.to_owned())),
                // A mix of sizes has commas of its own.
                (None, Some((key, value))) if *key == "size" => *value += &format!(",{word}"),
                _ => return Err(format!("`{word}`: expected KEY=VALUE")),
            }
        }
        for (index, (key, value)) in pairs.iter().enumerate() {
            if pairs[..index].iter().any(|(known, _)| known == key) {
                return Err(format!("{key} is given twice"));
            }
            plan.set(key, value)
                .map_err(|why| format!("`{key}={value}`: {why}"))?;
        }
        Ok(plan)
    }
}

impl CellPlan {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let work = &mut self.work;
        let number = |most: usize| {
            let number = value
                .parse()
                .ok()
                .filter(|number| (1..=most).contains(number));
            number.ok_or_else(|| format!("expected a number from 1 to {most}"))
        };
        let request_reply = match work.workload {
            Workload::RequestReply => Ok(()),
            _ => Err("goes with request-reply only".to_owned()),
        };
        match key {
            "connections" => work.connections = number(MOST_CONNECTIONS)?,
            "size" => work.sizes = value.parse::<Mix>()?.to_string(),
            "transport" => {
                work.transport = match value {
                    "tcp" => Transport::Tcp,
                    "unix" => Transport::Unix,
                    _ => return Err("expected tcp or unix".to_owned()),
                }
            }
            "pipeline" => {
                request_reply?;
                work.pipeline = number(MOST_IN_FLIGHT)?;
            }
            "rate" => {
                request_reply?;
                match value.strip_suffix('%') {
                    Some(part) => work.rate_of_baseline = Some(part_of_all(part)?),
                    None => work.rate = Some(rate(value)?),
                }
            }
            _ => {
                return Err("known are connections, size, transport, pipeline and rate".to_owned());
            }
        }
        Ok(())
    }
}

fn part_of_all(text: &str) -> Result<f64, String> {
    let per_cent = text.parse().ok();
    let per_cent = per_cent.filter(|per_cent: &f64| (0.1..=200.0).contains(per_cent));
    let per_cent = per_cent.ok_or("expected from 0.1 % to 200 % of what the baseline bears")?;
    Ok(per_cent / 100.0)
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok();
    let rate = rate.filter(|rate: &f64| (1.0..=1e8).contains(rate));
    rate.ok_or_else(|| {
        "expected requests per second, or per cent of what the baseline bears".into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_a_workload_and_what_differs_from_the_usual() {
        let text = "request-reply,connections=256,size=1024,transport=unix,pipeline=4,rate=25%";
        let plan: CellPlan = text.parse().unwrap();
        let work = &plan.work;
        assert_eq!((work.connections, work.pipeline), (256, 4));
        assert_eq!(
            (work.sizes.as_str(), work.transport),
            ("1024", Transport::Unix)
        );
        assert_eq!((work.rate, work.rate_of_baseline), (None, Some(0.25)));

        let plan: CellPlan = "churn,size=32:90,4096:10".parse().unwrap();
        assert_eq!(plan.work.workload, Workload::Churn);
        assert_eq!(plan.work.sizes, "32:90,4096:10");

        let plan: CellPlan = "request-reply,rate=20000".parse().unwrap();
        assert_eq!(
            (plan.work.rate, plan.work.rate_of_baseline),
            (Some(20_000.0), None)
        );
    }

    #[test]
    fn what_is_no_work_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "request-reply, stream"),
            ("swim", "request-reply, stream"),
            ("churn,rate=5", "request-reply only"),
            ("stream,pipeline=5", "request-reply only"),
            ("churn,connections=0", "from 1 to"),
            ("churn,connections", "KEY=VALUE"),
            ("churn,connections=1,connections=2", "twice"),
            ("churn,transport=rdma", "tcp or unix"),
            ("churn,colour=red", "known are"),
            ("request-reply,rate=0%", "from 0.1 %"),
            ("request-reply,rate=nan", "per second"),
            ("request-reply,size=0", "expected SIZE"),
        ] {
            let error = text.parse::<CellPlan>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
