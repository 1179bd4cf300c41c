//! Tells the program which compiler built it: a report says so.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output();
    let version = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    println!(
        "cargo::rustc-env=RUSTC_VERSION={}",
        version
            .unwrap_or_default()
            .trim_start_matches("rustc ")
            .trim()
    );
}
