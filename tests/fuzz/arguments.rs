//! A program that is started with any arguments, environment and files: it says what is wrong with
//! them or does what they say, but it never panics and it ends when it is asked to.
//!
//! What it can be asked for it tells itself, in its help, so that a new option is tried as soon as
//! it is there.

mod values;

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use self::values::{PLAUSIBLE, Values, bytes, mutated, variable};
use crate::settings;

/// How long a run may go on before it is asked to end: time to start and to get to work.
const A_WHILE: Duration = Duration::from_millis(800);

/// How long it may take to end then. Nothing takes this long that ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program, and what its help says.
pub(crate) struct Program {
    path: &'static str,
    commands: Vec<Subcommand>,
    /// Contents of files that it reads.
    samples: Vec<Vec<u8>>,
}

struct Subcommand {
    name: String,
    options: Vec<Opt>,
}

/// An option, with values that it takes, if it does.
struct Opt {
    name: String,
    values: Option<Vec<String>>,
}

impl Program {
    /// The program at `path`, which reads files such as the `samples`.
    pub(crate) fn new(path: &'static str, samples: Vec<Vec<u8>>) -> Self {
        let commands: Vec<_> = names_of_commands(&help(path, &["--help"]))
            .into_iter()
            .map(|name| Subcommand {
                options: options(&help(path, &[&name, "-h"])),
                name,
            })
            .collect();
        let known = |name| commands.iter().any(|command| command.name == name);
        assert!(known("serve"), "the help of {path} cannot be read");
        Self {
            path,
            commands,
            samples,
        }
    }

    /// Starts it again and again until the time is over.
    pub(crate) fn fuzz(&self, usual: Duration) {
        let time = settings::time(usual);
        let first = settings::first_seed();
        let start = Instant::now();
        let mut codes = std::collections::BTreeMap::<String, usize>::new();
        let mut seed = first;
        loop {
            let run = Run::new(self, seed);
            let end = run.go(self.path);
            let code = end.unwrap_or_else(|fault| {
                panic!(
                    "{fault}\n{run:?}\nto repeat it: RINGLAB_FUZZ_SECONDS=0 \
                     RINGLAB_FUZZ_SEED={seed} cargo test --test fuzz_arguments"
                )
            });
            *codes.entry(code).or_default() += 1;
            seed += 1;
            if start.elapsed() >= time {
                break;
            }
        }
        println!("from seed {first} on, runs by how they ended: {codes:?}");
    }
}

fn help(path: &str, args: &[&str]) -> String {
    let output = Command::new(path).args(args).output();
    let output = output.expect("the program can be started");
    String::from_utf8(output.stdout).expect("valid UTF-8")
}

fn names_of_commands(help: &str) -> Vec<String> {
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    let names = commands.filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

fn options(help: &str) -> Vec<Opt> {
    let mut options = Vec::<(Opt, String, String)>::new();
    for line in help.lines() {
        let line = line.trim_start();
        if line.starts_with('-') {
            let (head, text) = line.split_once("  ").unwrap_or((line, ""));
            let mut words = head.split([' ', ',']).filter(|word| !word.is_empty());
            let name = words.rfind(|word| word.starts_with('-'));
            let option = Opt {
                name: name.unwrap_or("--").trim_end_matches("...").to_owned(),
                values: head.contains('<').then(Vec::new),
            };
            options.push((option, head.to_owned(), text.to_owned()));
        } else if let Some((_, _, text)) = options.last_mut() {
            text.push(' ');
            text.push_str(line);
        }
    }
    let with_values = options.into_iter().map(|(mut option, kinds, text)| {
        if let Some(values) = &mut option.values {
            for list in ["[possible values: ", "[default: "] {
                let list = text
                    .split_once(list)
                    .and_then(|(_, rest)| rest.split_once(']'));
                let list = list.map_or("", |(list, _)| list).split(", ");
                values.extend(list.filter(|value| !value.is_empty()).map(str::to_owned));
            }
            for (_, plausible) in PLAUSIBLE.iter().filter(|(kind, _)| kinds.contains(kind)) {
                values.extend(plausible.iter().map(|&value| value.to_owned()));
            }
        }
        option
    });
    with_values.collect()
}

/// One start of a program.
struct Run {
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    descriptors: Option<usize>,
    stdout: Stream,
    stderr: Stream,
    directory: tempfile::TempDir,
    /// Somebody to connect to who says nothing.
    _silent: TcpListener,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run")
            .field("arguments", &self.arguments)
            .field("environment", &self.environment)
            .field("descriptors", &self.descriptors)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .finish_non_exhaustive()
    }
}

/// What stdout or stderr is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Read,
    /// A pipe that nobody reads any more.
    Broken,
    Closed,
    FullDisk,
}

impl Stream {
    fn any(random: &mut fastrand::Rng) -> Self {
        match random.u8(0..10) {
            0 => Self::Broken,
            1 => Self::Closed,
            2 => Self::FullDisk,
            _ => Self::Read,
        }
    }

    fn stdio(self) -> Stdio {
        match self {
            Self::Read | Self::Closed => Stdio::piped(),
            Self::Broken => Stdio::from(io::pipe().expect("pipes can be made").1),
            Self::FullDisk => {
                let full = fs::OpenOptions::new().write(true).open("/dev/full");
                Stdio::from(full.expect("/dev/full is there"))
            }
        }
    }
}

impl Run {
    fn new(program: &Program, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let directory = tempfile::tempdir().expect("a directory for files");
        for name in ["file", "other"] {
            let content = match random.choice(&program.samples) {
                Some(sample) => mutated(sample, &mut random),
                None => bytes(&mut random, 2000),
            };
            fs::write(directory.path().join(name), content).expect("there is room");
        }
        fs::create_dir(directory.path().join("directory")).expect("there is room");
        let address = silent.local_addr().expect("a bound socket").to_string();
        let values = Values {
            program,
            address: &address,
        };
        let arguments = values.arguments(&mut random);
        let environment = (0..random.usize(0..3)).map(|_| variable(&mut random));
        Self {
            arguments,
            environment: environment.collect(),
            descriptors: (random.u8(0..10) == 0).then(|| random.usize(12..64)),
            stdout: Stream::any(&mut random),
            stderr: Stream::any(&mut random),
            directory,
            _silent: silent,
        }
    }

    /// Returns how it ended, or what is wrong with that.
    fn go(&self, path: &str) -> Result<String, String> {
        let closed = |stream, redirection| match stream {
            Stream::Closed => redirection,
            _ => "",
        };
        let script = format!(
            "{}exec \"$0\" \"$@\" {} {}",
            self.descriptors
                .map_or(String::new(), |limit| format!("ulimit -n {limit} && ")),
            closed(self.stdout, ">&-"),
            closed(self.stderr, "2>&-"),
        );
        let mut command = Command::new("sh");
        let mut child = command
            .args(["-c", &script, path])
            .args(&self.arguments)
            .env_remove("RUST_LOG")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(self.stdout.stdio())
            .stderr(self.stderr.stdio())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("it cannot be started: {error}"))?;
        let stdout = Heard::of(child.stdout.take());
        let stderr = Heard::of(child.stderr.take());
        let announced = || stdout.contains(b"listening on ");
        let mut asked = false;
        let mut status = wait(&mut child, A_WHILE, announced);
        if status.is_none() {
            asked = true;
            let _ = kill_process(Pid::from_child(&child), Signal::TERM);
            status = wait(&mut child, PATIENCE, || false);
        }
        let Some(status) = status else {
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            let _ = child.wait();
            return Err(format!("it does not end, and says {}", stderr.text()));
        };
        let fine = match status.code() {
            Some(code) => (0..=2).contains(&code),
            // It may not have got as far as to handle it, or see no reason to.
            None => asked && status.signal() == Some(Signal::TERM.as_raw()),
        };
        if !fine || stderr.contains(b"panicked at") {
            return Err(format!("it ends with {status}, and says {}", stderr.text()));
        }
        Ok(status.to_string())
    }
}

/// Waits for the end, or until enough has happened.
fn wait(child: &mut Child, time: Duration, enough: impl Fn() -> bool) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        let status = child.try_wait().expect("it can be waited for");
        if status.is_some() || enough() || start.elapsed() >= time {
            return status;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// What a stream has said so far.
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    fn of(stream: Option<impl Read + Send + 'static>) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&text);
        if let Some(mut stream) = stream {
            thread::spawn(move || {
                let mut piece = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut piece) {
                    let mut text = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    text.extend_from_slice(&piece[..count]);
                }
            });
        }
        Self(text)
    }

    fn contains(&self, part: &[u8]) -> bool {
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.windows(part.len()).any(|window| window == part)
    }

    fn text(&self) -> String {
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&text).into_owned()
    }
}
