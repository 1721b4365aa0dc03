//! Draws the figures as SVG that can be read on light and on dark ground: it brings its own ground, and follows the
//! reader's choice where the viewer knows it.

use std::fmt::{Display, Write as _};

use super::exchange::ExchangeRun;
use super::goals::grouped;
use super::record::{Growth, Run};

/// Width of a drawing, in its own units.
const WIDTH: f64 = 900.0;
/// Colours are named in one place, so that each theme states all of them.
const STYLE: &str = "<style>\
text{font:13px system-ui,sans-serif;fill:#1f2328}.faint{fill:#59636e}.head{font-weight:600}\
.ground{fill:#ffffff}.rule{stroke:#d1d9e0;stroke-width:1}.median{stroke:#1f2328;stroke-width:2}\
.ours{fill:#2f6fb5}.others{fill:#9aa4ae}.line{fill:none;stroke-width:2}\
.s0{stroke:#2f6fb5}.s1{stroke:#c4681c}.s2{stroke:#2f8550}.s3{stroke:#8250c4}.s4{stroke:#b03a63}.s5{stroke:#59636e}.s6{stroke:#117f8a}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.faint{fill:#9198a1}.ground{fill:#0d1117}.rule{stroke:#3d444d}\
.median{stroke:#e6edf3}.ours{fill:#4f94dd}.others{fill:#656c76}\
.s0{stroke:#4f94dd}.s1{stroke:#e28a45}.s2{stroke:#4fae74}.s3{stroke:#a987e0}.s4{stroke:#e0709a}.s5{stroke:#9198a1}.s6{stroke:#3fb6c2}}\
</style>";
/// Line styles above.
const STYLES: usize = 7;

/// A drawing under construction.
struct Drawing {
    body: String,
    height: f64,
}

impl Drawing {
    const fn new() -> Self {
        Self {
            body: String::new(),
            height: 0.0,
        }
    }

    fn add(&mut self, element: impl Display) {
        // A string takes whatever is written to it.
        writeln!(self.body, "{element}").unwrap_or(());
    }

    fn text(&mut self, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        self.add(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" class="{class}" text-anchor="{anchor}">{text}</text>"#
        ));
    }

    fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        self.add(format_args!(
            r#"<line class="{class}" x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}"/>"#,
            from.0, from.1, to.0, to.1
        ));
    }

    fn finish(self, title: &str) -> String {
        let (body, height) = (self.body, self.height);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" role=\"img\" aria-label=\"{title}\">\n\
             {STYLE}\n<rect class=\"ground\" width=\"100%\" height=\"100%\" rx=\"6\"/>\n{body}</svg>\n"
        )
    }
}

/// One bar of a drawing.
struct Bar<'a> {
    title: &'a str,
    ours: bool,
    minimum: f64,
    median: f64,
}

/// Each candidate's cost: a bar for the minimum, a mark at the median.
#[must_use]
pub fn costs(run: &Run) -> String {
    let bars = run.setups.iter().map(|setup| Bar {
        title: &setup.title,
        ours: setup.candidate.is_kerbridge(),
        minimum: setup.measured.summary.cpu_minimum,
        median: setup.measured.summary.cpu_median,
    });
    let head = "Envoy's processor time for one request, in µs";
    let about = "Processor time of one request for each setup";
    bars_of(&bars.collect::<Vec<_>>(), head, &run.machine.sentence(), about)
}

/// The same of those who take tickets.
#[must_use]
pub fn exchanges(run: &ExchangeRun) -> String {
    let bars = run.setups.iter().map(|setup| Bar {
        title: &setup.title,
        ours: setup.acceptor.is_kerbridge(),
        minimum: setup.measured.summary.cpu_minimum,
        median: setup.measured.summary.cpu_median,
    });
    let head = "Processor time for one ticket, in µs";
    let about = "Processor time of one ticket for each acceptor";
    bars_of(&bars.collect::<Vec<_>>(), head, &run.machine.sentence(), about)
}

fn bars_of(bars: &[Bar<'_>], head: &str, foot: &str, about: &str) -> String {
    const LEFT: f64 = 430.0;
    const RIGHT: f64 = 790.0;
    let largest = bars.iter().map(|bar| bar.median.max(bar.minimum)).fold(1.0, f64::max);
    let place = |value: f64| LEFT + (RIGHT - LEFT) * value / largest;
    let mut drawing = Drawing::new();
    drawing.text(16.0, 28.0, "head", "start", head);
    drawing.text(
        WIDTH - 16.0,
        28.0,
        "faint",
        "end",
        "bar: minimum, mark: median of the rounds",
    );
    let mut y = 44.0;
    for bar in bars {
        let (text, class) = if bar.ours { ("head", "ours") } else { ("", "others") };
        drawing.text(LEFT - 10.0, y + 15.0, text, "end", bar.title);
        drawing.add(format_args!(
            r#"<rect class="{class}" x="{LEFT:.1}" y="{:.1}" width="{:.1}" height="16" rx="2"/>"#,
            y + 2.0,
            place(bar.minimum) - LEFT
        ));
        let median = place(bar.median);
        drawing.line("median", (median, y), (median, y + 20.0));
        let end = median.max(place(bar.minimum)) + 8.0;
        drawing.text(end, y + 15.0, text, "start", &format!("{:.1}", bar.minimum));
        y += 25.0;
    }
    drawing.line("rule", (LEFT, 40.0), (LEFT, y));
    drawing.text(16.0, y + 20.0, "faint", "start", foot);
    drawing.height = y + 34.0;
    drawing.finish(about)
}

/// A line of a panel.
struct Series {
    title: String,
    points: Vec<(u64, f64)>,
}

/// kerbridge by its size: instruction counts of the native gate, and processor time in Envoy.
#[must_use]
pub fn growth(run: Option<&Run>, growth: Option<&Growth>) -> String {
    let mut drawing = Drawing::new();
    drawing.height = 8.0;
    if let Some(growth) = growth {
        let series = growth.curves.iter().filter_map(|curve| {
            let first = curve.points.first()?.instructions;
            let points = curve
                .points
                .iter()
                .map(|point| (point.size, point.instructions / first));
            Some(Series {
                title: format!("{}, {} request", curve.dimension, curve.operation),
                points: points.collect(),
            })
        });
        let title = "Instructions of the native gate for one request, over those at the smallest size";
        panel(&mut drawing, title, &series.collect::<Vec<_>>(), (0.9, 1.1), 2);
    }
    if let Some(run) = run {
        let series = run.curves.iter().map(|curve| Series {
            title: curve.dimension.clone(),
            points: curve
                .points
                .iter()
                .map(|point| (point.size, point.measured.summary.cpu_minimum))
                .collect(),
        });
        let title = "Envoy's processor time for one cached request, in µs (minimum of the rounds)";
        panel(&mut drawing, title, &series.collect::<Vec<_>>(), (0.0, 10.0), 0);
    }
    drawing.finish("Cost of a request by the size of the configuration")
}

/// One panel: sizes to the right in powers of ten, values upwards from `least.0` to `least.1` or the largest.
fn panel(drawing: &mut Drawing, title: &str, series: &[Series], least: (f64, f64), digits: usize) {
    const LEFT: f64 = 64.0;
    const RIGHT: f64 = 620.0;
    const TALL: f64 = 200.0;
    let values = || series.iter().flat_map(|line| &line.points);
    let largest = values().map(|point| point.1 * 1.05).fold(least.1, f64::max);
    let smallest = values().map(|point| point.1).fold(least.0, f64::min);
    let decades = values().map(|point| exponent(point.0)).fold(1.0, f64::max).ceil();
    let top = drawing.height + 40.0;
    let x = |size: u64| LEFT + (RIGHT - LEFT) * exponent(size) / decades;
    let y = |value: f64| top + TALL * (largest - value) / (largest - smallest);
    drawing.text(16.0, top - 16.0, "head", "start", title);
    for step in 0..=4_u32 {
        let value = smallest + (largest - smallest) * f64::from(step) / 4.0;
        drawing.line("rule", (LEFT, y(value)), (RIGHT, y(value)));
        drawing.text(LEFT - 8.0, y(value) + 4.0, "faint", "end", &format!("{value:.digits$}"));
    }
    for decade in 0..=(decades as u32) {
        let size = 10_u64.saturating_pow(decade);
        drawing.text(x(size), top + TALL + 20.0, "faint", "middle", &grouped(size));
    }
    for (at, line) in series.iter().enumerate() {
        let style = at % STYLES;
        let points: Vec<String> = line
            .points
            .iter()
            .map(|(size, value)| format!("{:.1},{:.1}", x(*size), y(*value)))
            .collect();
        drawing.add(format_args!(
            r#"<polyline class="line s{style}" points="{}"/>"#,
            points.join(" ")
        ));
        for (size, value) in &line.points {
            drawing.add(format_args!(
                r#"<circle class="line s{style}" cx="{:.1}" cy="{:.1}" r="3"/>"#,
                x(*size),
                y(*value)
            ));
        }
        let legend = top + 12.0 + 22.0 * at as f64;
        drawing.line(
            &format!("line s{style}"),
            (RIGHT + 20.0, legend - 4.0),
            (RIGHT + 44.0, legend - 4.0),
        );
        drawing.text(RIGHT + 52.0, legend, "", "start", &line.title);
    }
    let legend = 22.0 * series.len() as f64;
    drawing.height = top + (TALL + 30.0).max(legend + 10.0);
}

/// The power of ten; 0 and 1 stand together at the left.
fn exponent(size: u64) -> f64 {
    (size.max(1) as f64).log10()
}

#[cfg(test)]
mod tests {
    use super::super::exchange::Acceptor;
    use super::super::exchange::tests::exchange_run_of;
    use super::super::record::tests::{measured, run_of};
    use super::super::record::{Candidate, EnvoyCurve, EnvoyPoint, GrowthCurve, GrowthPoint};
    use super::*;

    /// The value of an attribute, as often as it is there.
    fn numbers(svg: &str, element: &str, attribute: &str) -> Vec<f64> {
        svg.lines()
            .filter(|line| line.starts_with(&format!("<{element} ")))
            .filter_map(|line| {
                line.split(&format!(" {attribute}=\""))
                    .nth(1)?
                    .split('"')
                    .next()?
                    .parse()
                    .ok()
            })
            .collect()
    }

    #[test]
    fn bars_are_as_long_as_the_costs() {
        let svg = costs(&run_of(&[
            (Candidate::Bare, 30.0, 1),
            (Candidate::KerbridgeWarmEs256, 60.0, 1),
        ]));
        let widths = numbers(&svg, "rect", "width");
        // The first is the ground.
        assert_eq!(widths.get(widths.len() - 2..), Some([180.0, 360.0].as_slice()), "{svg}");
    }

    #[test]
    fn acceptors_are_drawn_as_candidates_are() {
        let svg = exchanges(&exchange_run_of(&[
            (Acceptor::Apache, 60.0, 1),
            (Acceptor::Kerbridge, 30.0, 1),
        ]));
        let widths = numbers(&svg, "rect", "width");
        assert_eq!(widths.get(widths.len() - 2..), Some([360.0, 180.0].as_slice()), "{svg}");
    }

    #[test]
    fn each_colour_is_given_for_light_and_for_dark() {
        let (light, dark) = STYLE.split_once("@media").unwrap();
        for class in [
            "text{", ".faint{", ".ground{", ".rule{", ".median{", ".ours{", ".others{", ".s0{", ".s5{",
        ] {
            assert!(light.contains(class) && dark.contains(class), "{class}");
        }
    }

    #[test]
    fn a_flat_curve_is_drawn_flat_and_a_steep_one_within_its_panel() {
        let curve = |values: [f64; 2]| GrowthCurve {
            dimension: "rules".into(),
            operation: "cold".into(),
            points: [(0, values[0]), (1000, values[1])]
                .map(|(size, instructions)| GrowthPoint { size, instructions })
                .to_vec(),
        };
        let counts = Growth {
            tool: "a counter".into(),
            curves: vec![curve([500.0, 500.0]), curve([100.0, 90_000.0])],
        };
        let svg = growth(None, Some(&counts));
        let heights = numbers(&svg, "circle", "cy");
        assert_eq!(heights[0], heights[1]);
        assert!(heights[3] > 48.0 && heights[3] < heights[0], "{heights:?}");
        let mut run = run_of(&[]);
        let point = |size| EnvoyPoint {
            size,
            measured: measured(&[50.0], 1),
        };
        run.curves = vec![EnvoyCurve {
            dimension: "issuers".into(),
            points: vec![point(1), point(100)],
        }];
        let both = growth(Some(&run), Some(&counts));
        assert!(both.contains(">issuers<") && both.len() > svg.len());
    }
}
