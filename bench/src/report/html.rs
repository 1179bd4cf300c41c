//! A report as a page: one file that loads nothing, for a phone as well as for a desk.

mod curves;
mod environment;
mod headline;
mod lead;
mod overview;
mod reading;
mod section;
mod tables;
#[cfg(test)]
mod tests;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::standing::Standing;
use super::{Cell, Entry, Report, words};
use crate::statistics::Verdict;

/// How the page looks.
const STYLE: &str = include_str!("html/page.css");

/// The page.
pub fn render(report: &Report) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // The page needs nothing but its own style; browsers can hold it to that.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { (headline::question(report)) " Linux " (report.environment.kernel) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (headline::header(report))
                main {
                    (warnings(report))
                    (curves::sections(report))
                    (reading::how_to_read(report))
                    @for (index, cell) in report.cells.iter().enumerate() { (section::section(index, cell, &report.baseline)) }
                    (environment::environment(report))
                }
                (footer(report))
            }
        }
    };
    page.into_string()
}

/// What makes the measurement less trustworthy.
fn warnings(report: &Report) -> Markup {
    let warnings = &report.environment.warnings;
    html! {
        @if !warnings.is_empty() {
            section class="notice" {
                h2 { "Warnings" }
                ul { @for warning in warnings { li { (warning) } } }
            }
        }
    }
}

fn footer(report: &Report) -> Markup {
    html! {
        footer {
            p { "Made by ringlab-bench; report version " (report.version) ". The JSON holds every round." }
        }
    }
}

/// How an entry stands by what its cell is judged by.
fn standing_in<'a>(cell: &'a Cell, entry: &'a Entry) -> Standing<'a> {
    Standing::of(cell, entry, cell.judged_by)
}

/// A verdict's shape, for eyes only.
fn shape(verdict: Verdict) -> Markup {
    html! { span class=(format!("shape {}", words::class(verdict))) aria-hidden="true" { (words::shape(verdict)) } " " }
}
