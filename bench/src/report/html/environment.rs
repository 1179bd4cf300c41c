//! Where and how it was measured.

use maud::{Markup, html};

use crate::report::{Report, words};

/// The machine, the command and the contenders.
pub(super) fn environment(report: &Report) -> Markup {
    html! {
        section id="environment" {
            h2 { "Where and how it was measured" }
            (table(report))
            h3 { "Contenders" }
            (contenders(report))
        }
    }
}

/// Where it was measured, and how.
fn table(report: &Report) -> Markup {
    let environment = &report.environment;
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
    let rows = [
        ("kernel", environment.kernel.clone()),
        ("architecture", environment.machine.clone()),
        ("processor", environment.processor.clone()),
        ("processors", environment.processors.to_string()),
        (
            "virtual machine",
            yes(environment.virtual_machine).to_owned(),
        ),
        (
            "server ran on processor",
            environment.server_processors.clone(),
        ),
        (
            "client ran on processor",
            environment.client_processors.clone(),
        ),
        (
            "idle time read from",
            environment.idle_clock.clone().unwrap_or_else(|| {
                "nowhere: the sides are unknown, and the process is judged".to_owned()
            }),
        ),
        ("a side", format!("{}.", words::SIDE)),
        ("frequency governor", or_none(environment.governor.clone())),
        (
            "TCP congestion control",
            or_none(environment.congestion_control.clone()),
        ),
        (
            "load average before",
            or_none(environment.load_average.map(|load| format!("{load:.2}"))),
        ),
        (
            "ring features",
            environment.ring_features.replace(',', ", "),
        ),
        ("command", command(&report.command)),
        ("preset", report.preset.clone()),
        ("baseline", report.baseline.clone()),
        ("began", report.started.clone()),
        ("took", words::duration(report.seconds)),
    ];
    let named =
        |title: &str, (name, value): (&String, &String)| (format!("{title}{name}"), value.clone());
    let mitigations = environment.mitigations.iter();
    let mitigations = mitigations.map(|pair| named("mitigation of ", pair));
    let versions = environment.versions.iter();
    let versions = versions.map(|pair| named("version of ", pair));
    let rows = rows.map(|(name, value)| (name.to_owned(), value));
    let rows = rows.into_iter().chain(versions).chain(mitigations);
    html! {
        table class="pairs" {
            tbody { @for (name, value) in rows { tr { th scope="row" { (name) } td { (value) } } } }
        }
    }
}

/// Who was measured.
fn contenders(report: &Report) -> Markup {
    html! {
        dl {
            @for contender in &report.contenders {
                dt { (contender.name) }
                dd {
                    code { (contender.command) }
                    @if let Some(features) = &contender.features {
                        br; span class="soft" { "features: " (features.replace(',', ", ")) }
                    }
                }
            }
        }
    }
}

/// The command line as a shell would take it.
fn command(words: &[String]) -> String {
    let joined = shlex::try_join(words.iter().map(String::as_str));
    joined.unwrap_or_else(|_| words.join(" "))
}
