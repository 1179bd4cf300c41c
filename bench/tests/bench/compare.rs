//! `ringlab-bench compare`.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use libtest_mimic::Trial;
use ringlab_bench::report::{Report, Status, against};
use ringlab_bench::statistics::Verdict;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{self, command, run, trials};

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        a_server_that_is_made_slow_is_called_dearer,
        every_round_is_in_the_json_which_the_schema_describes,
        the_schema_is_the_one_that_is_checked_in,
        tables_fit_100_columns,
        peers_variants_and_commands_take_part,
        contenders_that_fail_are_rows_that_say_so,
        what_a_contender_has_started_ends_with_it,
        a_comparison_that_cannot_begin_leaves_files_as_they_are,
        a_comparison_without_its_baseline_still_has_figures,
        an_interrupted_comparison_keeps_what_it_has,
        an_earlier_report_is_compared_and_differences_are_warned_of,
        what_is_no_report_is_refused,
        names_given_twice_are_refused,
        processors_that_do_not_exist_are_refused,
        a_ladder_has_a_step_for_each_feature,
        too_few_rounds_say_nothing,
    ]
}

/// A comparison short enough for a test, with what it has written.
///
/// On a machine that is busy with other things a round of 20 ms may pass without a request, and
/// then has no ratio: what needs ratios takes longer ones, and more than need be.
struct Compared {
    ran: support::Ran,
    directory: TempDir,
}

impl Compared {
    fn with(arguments: &[&str]) -> Self {
        Self::lasting("20ms", arguments)
    }

    /// With so long a round.
    fn lasting(duration: &str, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let json = directory.path().join("report.json");
        let common = [
            "compare",
            "--duration",
            duration,
            "--json",
            json.to_str().unwrap(),
        ];
        let ran = run(&[&common, arguments].concat());
        Self { ran, directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("report.json")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    fn report(&self) -> Report {
        against::read(&self.text()).unwrap_or_else(|error| panic!("{error:#} {:?}", self.ran))
    }

    fn assert_code(&self, code: i32) {
        assert_eq!(
            self.ran.code, code,
            "{}\n{}",
            self.ran.stdout, self.ran.stderr
        );
    }
}

/// A contender that is one of the faulty servers.
fn faulty(fault: &str) -> String {
    let this = std::env::current_exe().unwrap();
    format!("{fault}='{}' faulty {fault} {{port}}", this.display())
}

fn a_server_that_is_made_slow_is_called_dearer() {
    let compared = Compared::lasting(
        "100ms",
        &[
            "--baseline",
            &faulty("none"),
            "--contender",
            &faulty("slow"),
            "--rounds",
            "10",
        ],
    );
    compared.assert_code(0);
    let report = compared.report();
    for cell in &report.cells {
        let slow = &cell.entries[1];
        assert_eq!(slow.contender, "slow");
        let ratio = slow.ratio(cell.judged_by);
        let verdict = ratio.map(|ratio| ratio.verdict);
        let why = &slow.status;
        assert_eq!(
            verdict,
            Some(Verdict::Worse),
            "{}: {ratio:?} {why:?}",
            cell.name
        );
    }
    let row = |line: &&str| line.starts_with("slow ") && line.ends_with(" dearer");
    // In its piece of work, and where the paths are compared.
    let rows = compared.ran.stdout.lines().filter(row).count();
    assert!(rows >= report.cells.len(), "{}", compared.ran.stdout);
}

fn every_round_is_in_the_json_which_the_schema_describes() {
    let compared = Compared::with(&[
        "--rounds",
        "6",
        "--contender",
        "epoll",
        "--contender",
        "uring",
        "--contender",
        "sequential",
    ]);
    compared.assert_code(0);
    let report = compared.report();
    for cell in &report.cells {
        assert_eq!(cell.entries.len(), 4, "three, and the null contender");
        for entry in cell
            .entries
            .iter()
            .filter(|entry| entry.status == Status::Measured)
        {
            let rounds: Vec<_> = entry.rounds.iter().map(|round| round.round).collect();
            assert_eq!(rounds, [0, 1, 2, 3, 4, 5]);
            // Sequential may well wait for all of such a short round.
            let has_worked = entry
                .rounds
                .iter()
                .any(|round| round.server_process_us > 0.0);
            assert!(has_worked || entry.contender == "sequential", "{entry:?}");
        }
    }
    let value: Value = serde_json::from_str(&compared.text()).unwrap();
    assert_eq!(
        serde_json::to_value(&report).unwrap(),
        value,
        "what is read is what was written"
    );
    let schema: Value = serde_json::from_str(&run(&["schema"]).ended_with(0)).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<_> = validator
        .iter_errors(&value)
        .map(|error| error.to_string())
        .collect();
    assert_eq!(errors, Vec::<String>::new());
    // It describes this, and not everything.
    assert!(!validator.is_valid(&serde_json::json!({ "version": 1 })));
}

fn the_schema_is_the_one_that_is_checked_in() {
    let checked_in = concat!(env!("CARGO_MANIFEST_DIR"), "/report.schema.json");
    assert_eq!(
        run(&["schema"]).ended_with(0),
        fs::read_to_string(checked_in).unwrap(),
        "write it anew: cargo run -p ringlab-bench -- schema > bench/report.schema.json"
    );
}

fn tables_fit_100_columns() {
    let compared = Compared::with(&[
        "--rounds",
        "6",
        "--contender",
        "uring:none,+provided-buffers,+multishot-recv",
        "--contender",
        "threads",
        "--contender",
        "sequential",
        "--contender",
        &faulty("die"),
    ]);
    compared.assert_code(1);
    for line in compared.ran.stdout.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

fn peers_variants_and_commands_take_part() {
    let mut arguments = vec!["--rounds", "1"];
    let command = faulty("none");
    for contender in ["peer:monoio", "peer:compio", "uring:none", &command] {
        arguments.extend(["--contender", contender]);
    }
    let compared = Compared::with(&arguments);
    compared.assert_code(0);
    let names: Vec<_> = compared
        .report()
        .contenders
        .into_iter()
        .map(|it| it.name)
        .collect();
    assert_eq!(
        names,
        ["epoll", "peer:monoio", "peer:compio", "uring:none", "none"]
    );
}

fn contenders_that_fail_are_rows_that_say_so() {
    let compared = Compared::lasting(
        "200ms",
        &[
            "--rounds",
            "2",
            "--contender",
            &faulty("die"),
            "--contender",
            &faulty("rude"),
            "--contender",
            "away=/nonexistent {port}",
            "--contender",
            "ends=false {port}",
            "--contender",
            "tokio",
        ],
    );
    compared.assert_code(1);
    let report = compared.report();
    let why = |name: &str| {
        let mut entries = report.cells[0].entries.iter();
        match &entries
            .find(|entry| entry.contender == name)
            .unwrap()
            .status
        {
            Status::Failed(why) => why.clone(),
            status => panic!("{name}: {status:?}"),
        }
    };
    assert!(why("die").contains("ended on purpose"), "{}", why("die"));
    assert!(why("rude").contains("wrong bytes"), "{}", why("rude"));
    assert!(
        why("away").contains("cannot run /nonexistent"),
        "{}",
        why("away")
    );
    assert!(why("ends").contains("did not start"), "{}", why("ends"));
    for cell in &report.cells {
        for entry in &cell.entries {
            if ["epoll", "tokio"].contains(&entry.contender.as_str()) {
                assert_eq!(entry.rounds.len(), 2, "{}: {}", cell.name, entry.contender);
            }
        }
    }
}

fn what_a_contender_has_started_ends_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let contender = |name: &str, then: &str| {
        format!(
            "{name}=sh -c 'sleep 600 & echo $! >{}; {then}' '{}' {{port}}",
            path(name).display(),
            std::env::current_exe().unwrap().display()
        )
    };
    let compared = Compared::with(&[
        "--rounds",
        "1",
        "--contender",
        &contender("two", "exec \"$0\" faulty none $1"),
        "--contender",
        &contender("orphan", ""),
    ]);
    compared.assert_code(1);
    let report = compared.report();
    for (name, expected) in [("two", "Measured"), ("orphan", "did not start")] {
        let mut entries = report.cells[0].entries.iter();
        let entry = entries.find(|entry| entry.contender == name).unwrap();
        let why = format!("{:?}", entry.status);
        assert!(why.contains(expected), "{why}");
        let pid = fs::read_to_string(path(name)).unwrap();
        support::wait_until("it has ended", || has_ended(pid.trim()));
    }
}

/// Whether a process is no more, whoever has yet to take note of it.
fn has_ended(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
        || !fs::exists(format!("/proc/{pid}")).unwrap()
}

fn a_comparison_that_cannot_begin_leaves_files_as_they_are() {
    let earlier = tempfile::NamedTempFile::new().unwrap();
    fs::write(&earlier, "precious").unwrap();
    let path = earlier.path().to_str().unwrap();
    let arguments = ["compare", "--server-processors", "1023", "--json", path];
    assert_eq!(run(&arguments).code, 1);
    assert_eq!(fs::read_to_string(&earlier).unwrap(), "precious");
}

fn a_comparison_without_its_baseline_still_has_figures() {
    let compared = Compared::with(&[
        "--rounds",
        "1",
        "--baseline",
        "gone=/nonexistent {port}",
        "--contender",
        "epoll",
    ]);
    compared.assert_code(1);
    let report = compared.report();
    let epoll = &report.cells[0].entries[1];
    assert!(epoll.medians.is_some());
    assert!(epoll.ratios.is_empty());
}

fn an_interrupted_comparison_keeps_what_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (json, html) = (path("report.json"), path("report.html"));
    let child = command(&["compare", "--preset", "standard", "--json"])
        .arg(&json)
        .arg("--html")
        .arg(&html)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let child = support::Running(child);
    let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
    support::wait_until("it is interruptible", || is_caught(pid, Signal::INT));
    // However often it is asked.
    for _ in 0..3 {
        kill_process(pid, Signal::INT).unwrap();
    }
    let ran = child.end();
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stdout.contains("Interrupted"), "{}", ran.stdout);
    let report = against::read(&fs::read_to_string(json).unwrap()).unwrap();
    assert!(report.partial);
    for entry in report.cells.iter().flat_map(|cell| &cell.entries) {
        assert!(!matches!(entry.status, Status::Failed(_)), "{entry:?}");
    }
    assert!(fs::read_to_string(html).unwrap().contains("</html>"));
}

/// Whether a process has a handler for a signal, see `proc_pid_status(5)`.
fn is_caught(pid: Pid, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let caught = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .unwrap();
    let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
    caught & (1 << (signal.as_raw() - 1)) != 0
}

fn an_earlier_report_is_compared_and_differences_are_warned_of() {
    let earlier = Compared::lasting("60ms", &["--rounds", "10", "--contender", "threads"]);
    earlier.assert_code(0);
    let then = earlier.directory.path().join("then.json");
    fs::write(
        &then,
        earlier
            .text()
            .replace("\"kernel\": \"", "\"kernel\": \"0.0.1-"),
    )
    .unwrap();
    let now = Compared::lasting(
        "60ms",
        &[
            "--rounds",
            "10",
            "--contender",
            "threads",
            "--against",
            then.to_str().unwrap(),
        ],
    );
    now.assert_code(0);
    let text = &now.ran.stdout;
    assert!(
        text.contains("warning: another environment: kernel"),
        "{text}"
    );
    let changes = against::changes(&now.report(), &earlier.report());
    assert_eq!(changes.len(), now.report().cells.len());
    assert!(
        changes.iter().all(|change| change.quotient.is_some()),
        "{changes:?}"
    );
    let before: Report = earlier.report();
    assert!(
        against::text(&before, &before).contains("× 1.000"),
        "the same is the same"
    );
}

fn what_is_no_report_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.json");
    for (text, reason) in [
        ("", "not a report"),
        ("{}", "not a report"),
        ("{\"version\": 1}", "measure anew"),
        ("{\"version\": 999}", "version 999"),
    ] {
        fs::write(&path, text).unwrap();
        let ran = run(&["compare", "--against", path.to_str().unwrap()]);
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.contains(reason), "{text}: {}", ran.stderr);
    }
}

fn names_given_twice_are_refused() {
    let ran = run(&["compare", "--contender", "tokio", "--contender", "tokio"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("two contenders are called tokio"),
        "{}",
        ran.stderr
    );
}

fn processors_that_do_not_exist_are_refused() {
    let ran = run(&["compare", "--server-processors", "1023"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("cannot run on processors 1023"),
        "{}",
        ran.stderr
    );
}

fn a_ladder_has_a_step_for_each_feature() {
    let compared = Compared::with(&["--preset", "ladder", "--rounds", "1"]);
    compared.assert_code(0);
    let report = compared.report();
    assert_eq!(report.baseline, "uring");
    for cell in &report.cells {
        let features: Vec<_> = cell
            .steps
            .iter()
            .map(|step| step.feature.as_str())
            .collect();
        assert!(features.contains(&"provided-buffers"), "{features:?}");
    }
    assert!(
        compared.ran.stdout.contains("from nothing: +"),
        "{}",
        compared.ran.stdout
    );
}

fn too_few_rounds_say_nothing() {
    let compared = Compared::with(&["--rounds", "2", "--contender", "threads"]);
    compared.assert_code(0);
    let text = &compared.ran.stdout;
    assert!(text.contains("too few rounds"), "{text}");
    assert!(
        !text.contains("cheaper") && !text.contains("dearer"),
        "{text}"
    );
}
