//! The page that `ringlab-bench compare --html` writes, in a browser.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;

use crate::support::{run, trials};

/// Where Debian's package `chromium` puts it.
const CHROMIUM: &str = "/usr/bin/chromium";

/// What is drawn of every piece of work.
const PLOTS: [&str; 2] = ["ratios", "cpu"];

pub(crate) fn trials() -> Vec<Trial> {
    let trials = trials![a_browser_shows_every_plot_and_has_nothing_to_complain_of,];
    let is_missing = !Path::new(CHROMIUM).exists();
    // In CI a browser that is missing is a failure, not an excuse.
    if !is_missing || env::var_os("CI").is_some() {
        return trials;
    }
    let reason = "without chromium: apt-get install chromium";
    trials
        .into_iter()
        .map(|trial| {
            let name = format!("{} ({reason})", trial.name());
            Trial::test(name, || Ok(())).with_ignored_flag(true)
        })
        .collect()
}

fn a_browser_shows_every_plot_and_has_nothing_to_complain_of() {
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("page.html");
    let arguments = ["compare", "--rounds", "6", "--duration", "20ms", "--html"];
    let contenders = ["--contender", "tokio", "--contender", "sequential"];
    run(&[&arguments[..], &[page.to_str().unwrap()], &contenders].concat()).ended_with(0);
    let html = fs::read_to_string(&page).unwrap();
    assert!(
        !html.contains("<script"),
        "it is to be read with scripts disabled"
    );

    // The sizes that plots have once they are laid out are only to be had by asking: a copy of the
    // page does, and writes them where the dump of the document shows them.
    let asking = directory.path().join("asking.html");
    let policy = html
        .find("<meta http-equiv=\"Content-Security-Policy\"")
        .unwrap();
    let end = policy + html[policy..].find('>').unwrap() + 1;
    let copy = format!("{}{}{}", &html[..policy], &html[end..], SIZES);
    fs::write(&asking, copy).unwrap();
    let (document, complaints) = open(&asking, directory.path());
    assert_eq!(complaints, Vec::<String>::new());
    for cell in 0..2 {
        for plot in PLOTS {
            let size = format!("cell-{cell}-{plot}: ");
            let at = document
                .rfind(&size)
                .unwrap_or_else(|| panic!("no {size}{document}"));
            let size = document[at + size.len()..].split('\n').next().unwrap();
            let (width, height) = size.split_once('x').unwrap();
            let is_visible = |text: &str| text.parse::<f64>().unwrap() > 100.0;
            assert!(
                is_visible(width) && is_visible(height),
                "cell-{cell}-{plot}: {size}"
            );
        }
    }
    let (_, complaints) = open(&page, directory.path());
    assert_eq!(complaints, Vec::<String>::new());
}

/// Writes the size of every plot, and the page's if it is wider than the window.
const SIZES: &str = "<pre id=sizes></pre><script>
    const lines = [...document.querySelectorAll('figure[id]')].map(figure => {
        const box = figure.querySelector('svg').getBoundingClientRect();
        return `${figure.id}: ${box.width}x${box.height}`;
    });
    const page = document.documentElement;
    if (page.scrollWidth > page.clientWidth) console.error('the page scrolls sideways');
    document.getElementById('sizes').textContent = lines.join('\\n') + '\\n';
</script>";

/// Opens a page. Returns the document as it then is, and what the browser's console says.
fn open(page: &Path, directory: &Path) -> (String, Vec<String>) {
    let profile = format!("--user-data-dir={}", directory.join("profile").display());
    let output = Command::new(CHROMIUM)
        .args([
            "--headless",
            // Root has no sandbox, and a container has none either.
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--enable-logging=stderr",
            "--window-size=500,900",
            &profile,
            "--dump-dom",
        ])
        .arg(format!("file://{}", page.display()))
        .output()
        .expect("chromium runs");
    assert!(output.status.success(), "{output:?}");
    let complaints = String::from_utf8_lossy(&output.stderr);
    let complaints = complaints.lines().filter(|line| line.contains("CONSOLE"));
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        complaints.map(str::to_owned).collect(),
    )
}
