//! Figures over load, or over the number of connections: a line for each contender, with its name
//! at its end.

use maud::{Markup, html};

use super::lettering::{elide, width};
use super::scale::{Scale, Unit, at_left};
use super::{BASELINE, BOLD, GAP, Heading, LINE, TEXT, WIDTH, at, legend};
use crate::report::Axis;

/// Left free for the labels of ticks.
const LEFT: f64 = 57.0;

/// Left free for the names of lines.
const RIGHT: f64 = 106.0;

/// What the closed loop takes at the right end.
const CLOSED: f64 = 64.0;

/// The height of what is drawn.
const HEIGHT: f64 = 190.0;

/// From one name to the next.
const NAMES: f64 = 15.0;

/// From a line's end to its name.
const LEADER: f64 = 14.0;

/// Half the size of a mark.
const MARK: f64 = 3.2;

/// So many contenders have a colour of their own; more are told apart by their lines as well.
const COLOURS: usize = 7;

/// How a figure goes over something.
pub(in crate::report) struct Curve {
    pub(in crate::report) heading: Heading,
    pub(in crate::report) over: Axis,
    pub(in crate::report) unit: Unit,
    /// The contenders' lines.
    pub(in crate::report) lines: Vec<Line>,
    /// The null contender's, of which only the band is drawn.
    pub(in crate::report) null: Option<Line>,
}

/// A contender's line.
pub(in crate::report) struct Line {
    pub(in crate::report) name: String,
    /// Its place among the contenders, which gives it its colour and shape.
    pub(in crate::report) index: usize,
    /// From the left to the right.
    pub(in crate::report) points: Vec<Place>,
}

/// A point of a line.
#[derive(Debug, Clone, Copy)]
pub(in crate::report) struct Place {
    /// Where; `None` for the closed loop.
    pub(in crate::report) at: Option<f64>,
    /// How much, above zero.
    pub(in crate::report) figure: f64,
    /// The interval, if there is one.
    pub(in crate::report) interval: Option<[f64; 2]>,
}

impl Curve {
    /// The plot with its caption; `None` if there is nothing to draw.
    pub(in crate::report) fn figure(self) -> Option<Markup> {
        let frame = Frame::new(&self)?;
        let Heading { id, title, caption } = &self.heading;
        let band = vec![(
            html! { rect class="equals" x="-6.0" y="-6.0" width="12.0" height="12.0" {} },
            "the baseline once more",
        )];
        let (legend, top) = match self.null {
            Some(_) => legend(&band),
            None => (html! {}, 0.0),
        };
        let labels = format!("{id}-title {id}-desc");
        let height = top + GAP + frame.height + 2.0 * LINE + LINE + GAP;
        Some(html! {
            figure class="plot" id=(id) {
                figcaption { strong { (title) } " " (caption) }
                svg role="img" aria-labelledby=(labels) viewBox=(format!("0 0 {WIDTH} {}", at(height))) {
                    title id=(format!("{id}-title")) { (title) }
                    desc id=(format!("{id}-desc")) { (self.description()) }
                    (legend)
                    g transform=(format!("translate(0 {})", at(top + GAP))) {
                        (frame.axes(self.over))
                        @if let Some(null) = &self.null { (frame.band(null, "equals")) }
                        @for line in &self.lines { (frame.band(line, &format!("area {}", colour(line.index)))) }
                        @for line in self.lines.iter().rev() { (frame.line(line, &self)) }
                        (frame.names(&self.lines))
                    }
                }
            }
        })
    }

    /// Where a point is, in words.
    fn place(&self, place: &Place) -> String {
        match (place.at, self.over) {
            (None, _) => "closed loop".to_owned(),
            (Some(at), Axis::Load) => format!("{at:.0} %"),
            (Some(at), Axis::Connections) => format!("{at:.0} connections"),
        }
    }

    /// The lines for those who do not see them.
    fn description(&self) -> String {
        let line = |line: &Line| {
            let points = line.points.iter();
            let told = points
                .map(|point| format!("{} {}", self.place(point), self.unit.figure(point.figure)));
            format!("{}: {}", line.name, told.collect::<Vec<_>>().join(", "))
        };
        self.lines.iter().map(line).collect::<Vec<_>>().join("; ")
    }
}

/// Where everything is.
struct Frame {
    x: Scale,
    y: Scale,
    height: f64,
    /// The right end, beyond which there are names only.
    right: f64,
    /// Whether there is a closed loop.
    is_closed: bool,
    /// The places on the axis along the bottom.
    places: Vec<f64>,
}

impl Frame {
    fn new(curve: &Curve) -> Option<Self> {
        let lines = || curve.lines.iter().chain(&curve.null);
        let points = || lines().flat_map(|line| &line.points);
        let is_closed = points().any(|point| point.at.is_none());
        let mut places: Vec<_> = points().filter_map(|point| point.at).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        let right = WIDTH - RIGHT;
        let x_end = if is_closed { right - CLOSED } else { right };
        let [first, last] = [*places.first()?, *places.last()?];
        let x = match curve.over {
            Axis::Load => Scale::linear([0.0, last.max(1.0)], [LEFT, x_end]),
            Axis::Connections => Scale::logarithmic([first, last], [LEFT, x_end]),
        };
        let height = HEIGHT.max(curve.lines.len() as f64 * NAMES);
        let y = curve.unit.scale(&extent(curve)?, [height, 0.0]);
        Some(Self {
            x,
            y,
            height,
            right,
            is_closed,
            places,
        })
    }

    fn x(&self, place: &Place) -> f64 {
        match place.at {
            Some(at) => self.x.place(at),
            None => self.right - CLOSED * 0.3,
        }
    }

    fn axes(&self, over: Axis) -> Markup {
        let [left, right] = [at(LEFT), at(self.right)];
        let bottom = self.height;
        let labels = self.labels(over);
        let name = match over {
            Axis::Load => "load, of what the baseline bears →",
            Axis::Connections => "connections (log scale) →",
        };
        let row = |line: f64| at(bottom + GAP / 2.0 + BASELINE + line * LINE);
        html! {
            @for (value, label) in self.y.ticks() {
                @let y = self.y.place(*value);
                line class=(if label == "1" { "one" } else { "grid" }) x1=(left) x2=(right) y1=(at(y)) y2=(at(y)) {}
                text class="soft end" x=(at(LEFT - 6.0)) y=(at(y + 4.5)) { (label) }
            }
            @for (x, label) in labels { text class="tick" x=(at(x)) y=(row(0.0)) { (label) } }
            @if self.is_closed {
                @let x = self.right - CLOSED * 0.3;
                line class="link" x1=(at(self.right - CLOSED * 0.68)) x2=(at(self.right - CLOSED * 0.68)) y1="0" y2=(at(bottom)) {}
                text class="tick" x=(at(x)) y=(row(0.0)) { "closed" }
                text class="tick" x=(at(x)) y=(row(1.0)) { "loop" }
            }
            text class="soft" x=(left) y=(row(if self.is_closed { 1.8 } else { 1.2 })) { (name) }
        }
    }

    /// The labels along the bottom, of which none touches another.
    fn labels(&self, over: Axis) -> Vec<(f64, String)> {
        let mut placed: Vec<(f64, String)> = Vec::new();
        let mut free = 0.0;
        // From the right: the fullest load is the one to be read.
        for &place in self.places.iter().rev() {
            let label = match over {
                Axis::Load => format!("{place:.0} %"),
                Axis::Connections => crate::load::summary::thousands(place),
            };
            let x = self.x.place(place);
            let half = width(&label, TEXT) / 2.0 + 3.0;
            if placed.is_empty() || x + half <= free {
                free = x - half;
                placed.push((x, label));
            }
        }
        placed
    }

    /// Where the intervals are.
    fn band(&self, line: &Line, class: &str) -> Markup {
        let with = |point: &&Place| point.interval.is_some();
        let open = line.points.iter().filter(|point| point.at.is_some());
        let open: Vec<_> = open.filter(with).collect();
        let corner = |point: &Place, end: usize| {
            let value = point.interval.map_or(point.figure, |ends| ends[end]);
            format!("{},{}", at(self.x(point)), at(self.y.place(value)))
        };
        let above = open.iter().map(|point| corner(point, 1));
        let below = open.iter().rev().map(|point| corner(point, 0));
        let corners: Vec<_> = above.chain(below).collect();
        let closed = line.points.iter().filter(|point| point.at.is_none());
        html! {
            @if open.len() > 1 { polygon class=(class) points=(corners.join(" ")) {} }
            @for point in closed.filter(with) {
                @let [low, high] = point.interval.unwrap_or([point.figure; 2]);
                @let [top, bottom] = [self.y.place(high), self.y.place(low)];
                rect class=(class) x=(at(self.x(point) - MARK * 2.0)) y=(at(top)) width=(at(MARK * 4.0)) height=(at(bottom - top)) {}
            }
        }
    }

    fn line(&self, line: &Line, curve: &Curve) -> Markup {
        let open = line.points.iter().filter(|point| point.at.is_some());
        let corners: Vec<_> = open
            .map(|point| format!("{},{}", at(self.x(point)), at(self.y.place(point.figure))))
            .collect();
        let dashed = if line.index < COLOURS { "" } else { " dashed" };
        html! {
            g class=(colour(line.index)) {
                @if corners.len() > 1 { polyline class=(format!("curve{dashed}")) points=(corners.join(" ")) {} }
                @for point in &line.points {
                    g transform=(format!("translate({} {})", at(self.x(point)), at(self.y.place(point.figure)))) {
                        title { (line.name) ", " (curve.place(point)) ": " (curve.unit.figure(point.figure)) (interval(point, curve.unit)) }
                        (mark(line.index))
                    }
                }
            }
        }
    }

    /// The names at the ends of the lines, pushed apart where they would touch.
    fn names(&self, lines: &[Line]) -> Markup {
        let ends = lines
            .iter()
            .filter_map(|line| Some((line, line.points.last()?)));
        let mut ends: Vec<_> = ends
            .map(|(line, end)| (line, self.x(end), self.y.place(end.figure)))
            .collect();
        ends.sort_by(|(.., one), (.., other)| one.total_cmp(other));
        let wanted: Vec<_> = ends.iter().map(|(.., y)| *y).collect();
        let places = apart(&wanted, NAMES, [0.0, self.height]);
        let x = self.right + LEADER;
        html! {
            @for ((line, from, y), place) in ends.iter().zip(places) {
                g class=(colour(line.index)) {
                    line class="leader" x1=(at(from + MARK + 1.5)) y1=(at(*y)) x2=(at(x - 3.0)) y2=(at(place)) {}
                    text class="label" x=(at(x)) y=(at(place + 4.5)) { (elide(&line.name, WIDTH - x, TEXT * BOLD)) }
                }
            }
        }
    }
}

/// The least and the most that is to be seen; intervals only as far as they do not squash the
/// figures.
fn extent(curve: &Curve) -> Option<[f64; 2]> {
    /// So far beyond the outermost figures an interval is shown.
    const FAR: f64 = 1.25;
    let points = || curve.lines.iter().flat_map(|line| &line.points);
    let figures = || points().map(|point| point.figure);
    let least = figures().min_by(f64::total_cmp)?;
    let most = figures().max_by(f64::total_cmp)?;
    let null = curve.null.iter().flat_map(|null| &null.points);
    let ends = points().chain(null).filter_map(|point| point.interval);
    let [mut low, mut high] = [least, most];
    for [from, to] in ends {
        low = low.min(from.max(least / FAR));
        high = high.max(to.min(most * FAR));
    }
    Some([low, high])
}

/// Places as near as can be to those wanted, which are sorted, without being nearer to each other
/// than `room`.
fn apart(wanted: &[f64], room: f64, [top, bottom]: [f64; 2]) -> Vec<f64> {
    let mut places = Vec::with_capacity(wanted.len());
    let mut free = top;
    for &wanted in wanted {
        let place = wanted.max(free);
        places.push(place);
        free = place + room;
    }
    let mut free = bottom;
    for place in places.iter_mut().rev() {
        *place = place.min(free);
        free = *place - room;
    }
    places
}

fn interval(point: &Place, unit: Unit) -> String {
    point.interval.map_or_else(String::new, |ends| {
        let [low, high] = ends.map(|end| unit.figure(end));
        format!(" [{low}, {high}]")
    })
}

/// A contender's colour.
fn colour(index: usize) -> String {
    format!("c{}", index % COLOURS)
}

/// A contender's shape, for those who do not see its colour.
fn mark(index: usize) -> Markup {
    const WIDE: f64 = MARK * 1.3;
    let corners = |corners: &[[f64; 2]]| {
        let corners = corners
            .iter()
            .map(|[x, y]| format!("{},{}", at(*x), at(*y)));
        corners.collect::<Vec<_>>().join(" ")
    };
    let points = match index % 4 {
        0 => return html! { circle cx="0" cy="0" r=(at(MARK)) {} },
        1 => corners(&[[-MARK, -MARK], [MARK, -MARK], [MARK, MARK], [-MARK, MARK]]),
        2 => corners(&[[0.0, -WIDE], [WIDE, 0.0], [0.0, WIDE], [-WIDE, 0.0]]),
        _ => corners(&[[0.0, -WIDE], [WIDE, MARK], [-WIDE, MARK]]),
    };
    html! { polygon points=(points) {} }
}

/// What is at the left of a plot, in the unit of its text, must have room there.
const _: () = assert!(at_left() < LEFT);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_touch_are_pushed_apart() {
        let places = apart(&[10.0, 11.0, 12.0, 100.0], 15.0, [0.0, 100.0]);
        assert_eq!(places, [10.0, 25.0, 40.0, 100.0]);
        let at_the_end = apart(&[95.0, 98.0, 99.0], 15.0, [0.0, 100.0]);
        assert_eq!(at_the_end, [70.0, 85.0, 100.0]);
    }
}
