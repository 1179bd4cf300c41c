//! Plots, as SVG in the page.
//!
//! All but curves are built alike, from rows: a name at the left and what there is to say at the right of one
//! line, and beneath it, over the plot's full width, what is drawn. No column of names takes room
//! from the data, so that a plot is legible on a phone. Colours are the page's; none of them says
//! anything that a shape or a word does not.

mod axis;
mod bars;
mod curve;
mod forest;
mod latency;
mod lettering;
mod scale;
mod waterfall;

use maud::{Markup, html};

use axis::Axis;
pub(super) use bars::{memory, sides};
pub(super) use curve::{Curve, Line, Place};
pub(super) use forest::{example, ratios, steps};
pub(super) use latency::latencies;
use lettering::{elide, width, wrap};
pub(super) use scale::Unit;
pub(super) use waterfall::waterfall;

/// Units across a plot. About a phone's width in pixels, where a unit of text is then a pixel.
const WIDTH: f64 = 360.0;

/// Left free at both ends for what is drawn half beyond its place: marks, labels of ticks.
const MARGIN: f64 = 12.0;

/// The size of text.
const TEXT: f64 = 13.0;

/// From one line of text to the next.
const LINE: f64 = 17.0;

/// From a line's top to where its letters stand.
const BASELINE: f64 = 13.0;

/// The height of what is drawn in a row.
const MARKS: f64 = 18.0;

/// From a row's last line to the middle of its marks.
const MIDDLE: f64 = 8.0;

/// Between rows.
const GAP: f64 = 8.0;

/// How much wider bold letters are.
const BOLD: f64 = 1.1;

/// The least between a name and what is said about it.
const APART: f64 = 10.0;

/// The most lines that a reason takes.
const REASON_LINES: usize = 3;

/// With more rows than these, the axis is repeated above them.
const ROWS_OF_ONE_AXIS: usize = 12;

/// What a plot is in its page.
pub(super) struct Heading {
    /// Its identity, which no other plot in the page has.
    pub(super) id: String,
    /// What it shows.
    pub(super) title: String,
    /// What to know to read it.
    pub(super) caption: Markup,
}

/// A plot.
struct Plot {
    heading: Heading,
    /// What the shapes mean.
    legend: Vec<(Markup, &'static str)>,
    axis: Axis,
    /// A band behind all rows, from one place on the axis to another.
    band: Option<[f64; 2]>,
    /// Places on the axis to compare with, and the style of a line there.
    guides: Vec<(f64, &'static str)>,
    rows: Vec<Row>,
}

/// A row of a plot.
struct Row {
    name: String,
    note: Note,
    /// Drawn around a height of zero.
    marks: Option<Markup>,
}

/// What is said about a row.
enum Note {
    /// In parts with styles of their own, at the right.
    Figures(Vec<(String, &'static str)>),
    /// Why there is nothing to draw, in lines of its own.
    Reason(String),
}

impl Note {
    fn text(&self) -> String {
        match self {
            Self::Reason(reason) => reason.clone(),
            Self::Figures(parts) => parts.iter().map(|(text, _)| text.as_str()).collect(),
        }
    }
}

impl Plot {
    /// The plot with its caption.
    fn figure(self) -> Markup {
        let (drawing, height) = self.drawing();
        let Heading { id, title, caption } = &self.heading;
        let labels = format!("{id}-title {id}-desc");
        html! {
            figure class="plot" id=(id) {
                figcaption { strong { (title) } " " (caption) }
                svg role="img" aria-labelledby=(labels) viewBox=(format!("0 0 {WIDTH} {}", at(height))) {
                    title id=(format!("{id}-title")) { (title) }
                    desc id=(format!("{id}-desc")) { (self.description()) }
                    (drawing)
                }
            }
        }
    }

    /// Everything, and the height that it takes.
    fn drawing(&self) -> (Markup, f64) {
        let (legend, mut y) = legend(&self.legend);
        let repeat = self.rows.len() > ROWS_OF_ONE_AXIS;
        let labels = y;
        if repeat {
            y += LINE;
        }
        let top = y;
        let mut rows = Vec::new();
        for row in &self.rows {
            let (markup, words_end, height) = row.draw();
            rows.push(html! {
                g class="row" transform=(format!("translate(0 {})", at(y))) {
                    @if words_end < height { (self.lines(words_end, height)) }
                    (markup)
                }
            });
            y += height;
        }
        let markup = html! {
            (legend)
            @if let Some([from, to]) = self.band {
                (bar("equals", self.axis.x(from), self.axis.x(to), top, y))
            }
            @if repeat { (self.axis.labels(labels)) }
            @for row in &rows { (row) }
            (self.axis.labels(y))
            (self.axis.ends(y + LINE))
        };
        (markup, y + 2.0 * LINE + GAP)
    }

    /// Lines across what is drawn in a row; not across its words.
    fn lines(&self, top: f64, bottom: f64) -> Markup {
        html! {
            (self.axis.grid(top, bottom))
            @for (value, class) in &self.guides {
                (vertical(class, self.axis.x(*value), top, bottom))
            }
        }
    }

    /// The rows for those who do not see them.
    fn description(&self) -> String {
        let rows = self.rows.iter();
        let lines: Vec<_> = rows
            .map(|row| format!("{}: {}", row.name, row.note.text()))
            .collect();
        lines.join("; ")
    }
}

impl Row {
    /// The row from a height of zero, where its words end, and where it ends itself.
    fn draw(&self) -> (Markup, f64, f64) {
        let (text, lines) = match &self.note {
            Note::Figures(parts) => self.figures(parts),
            Note::Reason(reason) => self.reason(reason),
        };
        let bottom = lines as f64 * LINE;
        let markup = html! {
            title { (self.name) ": " (self.note.text()) }
            (text)
            @if let Some(marks) = &self.marks {
                g transform=(format!("translate(0 {})", at(bottom + MIDDLE))) { (marks) }
            }
        };
        let (words_end, end) = match self.marks {
            Some(_) => (bottom, bottom + MARKS + GAP),
            None => (bottom + GAP / 2.0, bottom + GAP / 2.0),
        };
        (markup, words_end, end)
    }

    /// The name at the left, figures at the right of the same line, or of the next if they do not
    /// fit.
    fn figures(&self, parts: &[(String, &'static str)]) -> (Markup, usize) {
        let taken = width(&self.note.text(), TEXT);
        let fits = width(&self.name, TEXT * BOLD) + APART + taken <= WIDTH;
        let lines = if fits || parts.is_empty() { 1 } else { 2 };
        let y = (lines - 1) as f64 * LINE + BASELINE;
        let markup = html! {
            text class="name" x="0" y=(at(BASELINE)) { (elide(&self.name, WIDTH, TEXT * BOLD)) }
            text class="end" x=(at(WIDTH)) y=(at(y)) {
                @for (text, class) in parts { tspan class=(class) { (text) } }
            }
        };
        (markup, lines)
    }

    /// The name, and a reason beneath it.
    fn reason(&self, reason: &str) -> (Markup, usize) {
        let lines = wrap(reason, WIDTH, TEXT, REASON_LINES);
        let markup = html! {
            text class="name" x="0" y=(at(BASELINE)) { (elide(&self.name, WIDTH, TEXT * BOLD)) }
            @for (index, line) in lines.iter().enumerate() {
                text class="soft" x="0" y=(at((index + 1) as f64 * LINE + BASELINE)) { (line) }
            }
        };
        (markup, lines.len() + 1)
    }
}

/// Shapes with their meanings, in as many lines as they need, and their height.
fn legend(items: &[(Markup, &'static str)]) -> (Markup, f64) {
    /// From one item's shape to its words.
    const SHAPE: f64 = 16.0;
    /// From one item to the next.
    const BETWEEN: f64 = 12.0;
    let (mut x, mut y) = (0.0, 0.0);
    let mut placed = Vec::new();
    for (shape, words) in items {
        let room = SHAPE + width(words, TEXT);
        if x > 0.0 && x + room > WIDTH {
            (x, y) = (0.0, y + LINE);
        }
        placed.push((x, y, shape, words));
        x += room + BETWEEN;
    }
    let markup = html! {
        @for (x, y, shape, words) in placed {
            g class="legend" transform=(format!("translate({} {})", at(x), at(y))) {
                g transform=(format!("translate({} {})", at(SHAPE / 2.0 - 2.0), at(BASELINE - TEXT / 3.0))) {
                    (shape)
                }
                text class="soft" x=(at(SHAPE)) y=(at(BASELINE)) { (words) }
            }
        }
    };
    let height = if items.is_empty() {
        0.0
    } else {
        y + LINE + GAP
    };
    (markup, height)
}

/// A coordinate, to a tenth of a unit: finer is nothing to see.
fn at(coordinate: f64) -> String {
    debug_assert!(coordinate.is_finite(), "a place for everything");
    format!("{coordinate:.1}")
}

/// A line across the plot's height.
fn vertical(class: &str, x: f64, top: f64, bottom: f64) -> Markup {
    let x = at(x);
    html! { line class=(class) x1=(x) x2=(x) y1=(at(top)) y2=(at(bottom)) {} }
}

/// A line along a row, at a height of zero.
fn horizontal(class: &str, from: f64, to: f64) -> Markup {
    html! { line class=(class) x1=(at(from)) x2=(at(to)) y1="0" y2="0" {} }
}

/// A bar.
fn bar(class: &str, from: f64, to: f64, top: f64, bottom: f64) -> Markup {
    let (left, right) = (from.min(to), from.max(to));
    html! {
        rect class=(class) x=(at(left)) y=(at(top)) width=(at(right - left)) height=(at(bottom - top)) {}
    }
}

/// Points to what lies beyond the axis's end.
fn arrow(class: &str, x: f64, side: axis::Side) -> Markup {
    /// How long and how high its half is.
    const SIZE: f64 = 5.0;
    let back = match side {
        axis::Side::Left => SIZE,
        axis::Side::Right => -SIZE,
    };
    let [tip, back] = [at(x), at(x + back)];
    html! {
        polyline class=(format!("arrow {class}")) points=(format!("{back},{0} {tip},0 {back},{SIZE}", -SIZE)) {}
    }
}
