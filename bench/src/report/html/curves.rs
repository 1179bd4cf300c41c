//! Cost and latency over load, or over the number of connections.

use maud::{Markup, html};

use super::{shape, tables};
use crate::load::Workload;
use crate::report::plot::{Curve, Heading, Line, Place, Unit};
use crate::report::standing::{self, Standing};
use crate::report::{Axis, Cell, Entry, Metric, Path, Report, Round, Transport, words};
use crate::statistics::{Estimate, median};

/// Pieces of work that differ in one thing only, which is what the curve goes over.
struct Series<'a> {
    over: Axis,
    kind: (Option<Path>, Transport, Workload),
    /// With their places in the report.
    cells: Vec<(usize, &'a Cell)>,
}

/// A figure of a contender at a place.
type Figure = fn(&Cell, &Entry) -> Option<(f64, Option<[f64; 2]>)>;

/// What is drawn of a series.
struct Panel {
    id: &'static str,
    title: String,
    caption: &'static str,
    unit: Unit,
    figure: Figure,
}

/// All curves of a report.
pub(super) fn sections(report: &Report) -> Markup {
    html! {
        @for (index, series) in series(report).iter().enumerate() {
            @let id = format!("curve-{index}");
            section id=(id) class="cell" {
                h2 { (series.title()) }
                div class="plots" {
                    @for panel in series.panels(&report.baseline) {
                        @if let Some(curve) = panel.curve(&id, series, report) {
                            div { (curve.figure().unwrap_or_default()) (panel.table(&id, series, report)) }
                        }
                    }
                }
                (verdicts(&id, series, report))
            }
        }
    }
}

/// In the order in which they were measured.
fn series(report: &Report) -> Vec<Series<'_>> {
    let mut all: Vec<Series<'_>> = Vec::new();
    for (index, cell) in report.cells.iter().enumerate() {
        let Some(point) = cell.point else { continue };
        let work = &cell.work;
        let kind = (work.path, work.transport, work.workload);
        let mut known = all.iter_mut();
        match known.find(|known| (known.over, known.kind) == (point.over, kind)) {
            Some(series) => series.cells.push((index, cell)),
            None => all.push(Series {
                over: point.over,
                kind,
                cells: vec![(index, cell)],
            }),
        }
    }
    for series in &mut all {
        // The closed loop last.
        let place = |cell: &Cell| cell.point.and_then(|it| it.at).unwrap_or(f64::INFINITY);
        let by_place = |(_, one): &(usize, &Cell), (_, other): &(usize, &Cell)| {
            place(one).total_cmp(&place(other))
        };
        series.cells.sort_by(by_place);
    }
    all
}

impl Series<'_> {
    fn title(&self) -> String {
        let (path, transport, workload) = self.kind;
        let over = match self.over {
            Axis::Load => "load",
            Axis::Connections => "the number of connections",
        };
        let path = path.map_or(String::new(), |path| format!(" {}", path.phrase()));
        format!("Over {over}: {workload}, {transport}{path}")
    }

    fn judged_by(&self) -> Metric {
        let first = self.cells.first();
        first.map_or(Metric::ServerSide, |(_, cell)| cell.judged_by)
    }

    fn panels(&self, baseline: &str) -> Vec<Panel> {
        let name = words::capital(self.judged_by().name());
        let mut panels = vec![
            Panel {
                id: "ratio",
                title: format!("{name}, relative to {baseline}."),
                caption: "What the verdicts are about; below 1 is better. Shaded: 95\u{a0}% intervals.",
                unit: Unit::Ratio,
                figure: relative,
            },
            Panel {
                id: "cost",
                title: format!("{name}."),
                caption: "Log scale. Intervals have the machine’s drift in them, which ratios have not.",
                unit: Unit::Time,
                figure: |cell, entry| of_rounds(entry, |it| it.value(cell.judged_by)),
            },
        ];
        match self.over {
            Axis::Load => panels.extend(tails()),
            Axis::Connections => panels.push(Panel {
                id: "throughput",
                title: "Requests per second.".to_owned(),
                caption: "Closed loop; more is better. Log scale.",
                unit: Unit::Rate,
                figure: |_, entry| of_rounds(entry, |it| Some(it.requests as f64 / it.seconds)),
            }),
        }
        panels
    }
}

/// Percentiles; of the closed loop there are none that say something.
fn tails() -> [Panel; 3] {
    const CAPTION: &str =
        "From when a request was due to its reply; log scale. The closed loop has none of its own.";
    let panel = |id, title: &str, figure: Figure| Panel {
        id,
        title: title.to_owned(),
        caption: CAPTION,
        unit: Unit::Time,
        figure,
    };
    [
        panel("p50", "Median latency.", |cell, entry| {
            latency(cell, entry, |round| Some(round.latency_us?.p50))
        }),
        panel("p99", "p99 latency.", |cell, entry| {
            latency(cell, entry, |round| Some(round.latency_us?.p99))
        }),
        panel("p999", "p99.9 latency.", |cell, entry| {
            latency(cell, entry, |round| Some(round.latency_us?.p99_9))
        }),
    ]
}

/// A contender's ratio to the baseline, of the null contender to itself.
fn relative(cell: &Cell, entry: &Entry) -> Option<(f64, Option<[f64; 2]>)> {
    let standing = Standing::of(cell, entry, cell.judged_by);
    let ratio = standing.judged()?.ratio;
    Some((ratio.median, Some([ratio.low, ratio.high])))
}

fn latency(
    cell: &Cell,
    entry: &Entry,
    of: fn(&Round) -> Option<f64>,
) -> Option<(f64, Option<[f64; 2]>)> {
    cell.work.has_latencies().then(|| of_rounds(entry, of))?
}

/// What the rounds come to, with an interval if they are enough for one.
fn of_rounds(entry: &Entry, of: impl Fn(&Round) -> Option<f64>) -> Option<(f64, Option<[f64; 2]>)> {
    let figures = entry.rounds.iter().filter_map(of);
    let figures: Vec<_> = figures.filter(|it| it.is_finite() && *it > 0.0).collect();
    if figures.is_empty() {
        return None;
    }
    Some(match Estimate::of(&figures) {
        Some(Estimate { median, low, high }) => (median, Some([low, high])),
        None => (median(&figures), None),
    })
}

impl Panel {
    /// `None` if nobody has a figure.
    fn curve(&self, id: &str, series: &Series<'_>, report: &Report) -> Option<Curve> {
        let contenders = report.contenders.iter().enumerate();
        let lines = contenders.map(|(index, contender)| Line {
            name: words::short(&contender.name),
            index,
            points: self.points(series, |cell| standing::find(cell, &contender.name)),
        });
        let lines: Vec<_> = lines.filter(|line| !line.points.is_empty()).collect();
        let null = Line {
            name: format!("{} (null)", report.baseline),
            index: 0,
            points: self.points(series, |cell| cell.entries.iter().find(|it| it.null)),
        };
        (!lines.is_empty()).then(|| Curve {
            heading: Heading {
                id: format!("{id}-{}", self.id),
                title: self.title.clone(),
                caption: html! { (self.caption) },
            },
            over: series.over,
            unit: self.unit,
            lines,
            null: null
                .points
                .iter()
                .any(|it| it.interval.is_some())
                .then_some(null),
        })
    }

    fn points<'a>(
        &self,
        series: &Series<'a>,
        entry: impl Fn(&'a Cell) -> Option<&'a Entry>,
    ) -> Vec<Place> {
        let points = series.cells.iter().filter_map(|(_, cell)| {
            let (figure, interval) = (self.figure)(cell, entry(cell)?)?;
            let at = cell.point?.at;
            Some(Place {
                at,
                figure,
                interval,
            })
        });
        points.collect()
    }

    /// What is drawn, in figures. The ratios have a table with their verdicts.
    fn table(&self, id: &str, series: &Series<'_>, report: &Report) -> Markup {
        let figure = |cell: &Cell, name: &str| {
            let (figure, interval) = (self.figure)(cell, standing::find(cell, name)?)?;
            let bounds = interval.map(|ends| ends.map(|end| self.unit.figure(end)));
            Some(html! {
                span title=(bounds.map_or_else(String::new, |[low, high]| format!("[{low}, {high}]"))) {
                    (self.unit.figure(figure))
                }
            })
        };
        let table = by_contender(series, report, |cell, name| figure(cell, name));
        html! {
            @if self.unit != Unit::Ratio {
                details { summary { "In figures" }
                    (tables::scrolling(&format!("{id}-{}-figures", self.id), html! { (self.title) }, table))
                }
            }
        }
    }
}

/// Every verdict of a series.
fn verdicts(id: &str, series: &Series<'_>, report: &Report) -> Markup {
    let verdict = |cell: &Cell, name: &str| {
        let standing = Standing::of(cell, standing::find(cell, name)?, cell.judged_by);
        Some(match standing.judged() {
            Some(judged) => html! {
                (shape(judged.verdict)) (words::ratio(judged.ratio.median)) " "
                span class="soft" { (words::bounds(&judged.ratio)) }
                span class="unseen" { " " (cell.judged_by.words(judged.verdict)) }
            },
            None => html! { span class="soft" { (standing.words()) } },
        })
    };
    let table = by_contender(series, report, verdict);
    let title = html! {
        (words::capital(series.judged_by().name())) ", relative to " (report.baseline) ": "
        @for verdict in words::VERDICTS {
            span class="nowrap" { (shape(verdict)) (series.judged_by().words(verdict)) } " "
        }
    };
    tables::scrolling(&format!("{id}-table"), title, table)
}

/// A table of places and contenders.
fn by_contender(
    series: &Series<'_>,
    report: &Report,
    figure: impl Fn(&Cell, &str) -> Option<Markup>,
) -> Markup {
    let heading = match series.over {
        Axis::Load => "load",
        Axis::Connections => "connections",
    };
    html! {
        thead { tr {
            th scope="col" { (heading) }
            @for contender in &report.contenders { th scope="col" class="number" { (words::short(&contender.name)) } }
        } }
        tbody { @for (index, cell) in &series.cells { tr {
            th scope="row" { a href=(format!("#cell-{index}")) { (place(cell)) } }
            @for contender in &report.contenders {
                td class="number" { @match figure(cell, &contender.name) { Some(figure) => (figure), None => "–" } }
            }
        } } }
    }
}

/// Where a piece of work is on its curve.
fn place(cell: &Cell) -> String {
    match cell.point {
        Some(point) => match (point.over, point.at) {
            (_, None) => "closed loop".to_owned(),
            (Axis::Load, Some(at)) => format!("{at:.0}\u{a0}%"),
            (Axis::Connections, Some(at)) => crate::load::summary::thousands(at),
        },
        None => cell.name.clone(),
    }
}
