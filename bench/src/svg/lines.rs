//! Lines over two logarithmic axes.

use std::fmt::Write as _;

use super::{COLOURS, head};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 460.0;
/// Left, right, top and bottom of the axes' box.
const BOX: [f64; 4] = [70.0, 570.0, 40.0, 400.0];

/// A plot in the making.
#[derive(Debug)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    /// Each with its name. Values must be above zero.
    pub(crate) lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// A logarithmic axis from one power of ten to another.
#[derive(Debug, Clone, Copy)]
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min).log10().floor();
        let high = values.fold(f64::MIN_POSITIVE, f64::max).log10().ceil();
        let (low, high) = if low.is_finite() { (low, high.max(low + 1.0)) } else { (0.0, 1.0) };
        Self { low, high, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (value.log10() - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> + use<> {
        (self.low as i32..=self.high as i32).map(|power| 10_f64.powi(power))
    }
}

impl Plot {
    pub(crate) fn svg(&self) -> String {
        let [left, right, top, bottom] = BOX;
        let points = || self.lines.iter().flat_map(|(_, line)| line.iter().copied());
        let x = Axis::over(points().map(|(x, _)| x), left, right);
        let y = Axis::over(points().map(|(_, y)| y), bottom, top);
        let mut svg = head(WIDTH, HEIGHT, left, &self.title);
        let text = |svg: &mut String, x: f64, y: f64, anchor: &str, text: &str| {
            let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
        };
        let line = |svg: &mut String, points: &[(f64, f64)], colour: &str, width: f64| {
            let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let points = points.join(" ");
            let _ = writeln!(
                svg,
                "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
            );
        };
        for tick in x.ticks() {
            line(&mut svg, &[(x.at(tick), top), (x.at(tick), bottom)], "#dddddd", 1.0);
            text(&mut svg, x.at(tick), bottom + 18.0, "middle", &tick.to_string());
        }
        for tick in y.ticks() {
            line(&mut svg, &[(left, y.at(tick)), (right, y.at(tick))], "#dddddd", 1.0);
            text(&mut svg, left - 6.0, y.at(tick) + 4.0, "end", &tick.to_string());
        }
        text(&mut svg, (left + right) / 2.0, bottom + 42.0, "middle", self.x);
        text(&mut svg, 8.0, top - 4.0, "start", self.y);
        for (number, (name, points)) in self.lines.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let at: Vec<_> = points.iter().map(|(one, other)| (x.at(*one), y.at(*other))).collect();
            line(&mut svg, &at, colour, 2.0);
            let beside = top + 20.0 * number as f64 + 10.0;
            line(&mut svg, &[(right + 14.0, beside), (right + 34.0, beside)], colour, 3.0);
            text(&mut svg, right + 40.0, beside + 4.0, "start", name);
        }
        svg.push_str("</svg>\n");
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_within_the_box() {
        let axis = Axis::over([0.5, 20.0].into_iter(), 100.0, 400.0);
        assert_eq!((axis.low, axis.high), (-1.0, 2.0));
        assert!((axis.at(1.0) - 200.0).abs() < 1e-9);
        let plot = Plot { title: "t".into(), x: "x", y: "y", lines: vec![("a".into(), vec![(1.0, 2.0), (3.0, 40.0)])] };
        assert!(plot.svg().contains("polyline"));
        assert!(Plot { lines: Vec::new(), ..plot }.svg().ends_with("</svg>\n"));
    }
}
