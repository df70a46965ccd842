//! Plots as SVG: lines over two logarithmic axes, and horizontal bars. Drawn by the crate `plotters`; only its SVG backend
//! is compiled, which needs no fonts and no system library.

use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Colours of lines and parts of bars, in this order.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0x1b, 0x6c, 0xa8),
    RGBColor(0xd1, 0x49, 0x5b),
    RGBColor(0xed, 0xae, 0x49),
    RGBColor(0x3d, 0x8f, 0x5f),
    RGBColor(0x7b, 0x5e, 0xa7),
    RGBColor(0xc9, 0x7b, 0x3a),
    RGBColor(0x22, 0x22, 0x22),
    RGBColor(0x99, 0x99, 0x99),
];
const FONT: &str = "sans-serif";
const WIDTH: u32 = 760;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws an image of this size with a title on white.
fn draw(height: u32, title: &str, content: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE)?;
        area.draw(&Text::new(title, (10, 10), (FONT, 18)))?;
        content(&area)?;
        area.present()?;
    }
    Ok(svg)
}

/// Lines over two logarithmic axes.
#[derive(Debug)]
pub(crate) struct LinePlot {
    pub(crate) title: String,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    /// Name and points of each line. Values must be above zero.
    pub(crate) lines: Vec<(String, Vec<(f64, f64)>)>,
}

impl LinePlot {
    const HEIGHT: u32 = 460;
    /// Width of the legend, right of the axes.
    const LEGEND: u32 = 190;

    pub(crate) fn svg(&self) -> Result<String> {
        draw(Self::HEIGHT, &self.title, |area| self.draw(area))
    }

    fn draw(&self, area: &Area<'_>) -> Result<()> {
        let points = || self.lines.iter().flat_map(|(_, line)| line.iter().copied());
        let x = decades(points().map(|(x, _)| x));
        let y = decades(points().map(|(_, y)| y));
        let (plot, legend) = area.margin(35, 5, 5, 5).split_horizontally(WIDTH - Self::LEGEND);
        let mut chart = ChartBuilder::on(&plot)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d(x.log_scale(), y.log_scale())?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .light_line_style(TRANSPARENT)
            .label_style((FONT, 15))
            .draw()?;
        for ((number, (name, line)), colour) in self.lines.iter().enumerate().zip(COLOURS.iter().cycle()) {
            chart.draw_series(LineSeries::new(line.iter().copied(), colour.stroke_width(2)))?;
            let beside = 10 + 20 * number as i32;
            legend.draw(&PathElement::new([(10, beside), (30, beside)], colour.stroke_width(3)))?;
            let style = (FONT, 15).into_font().into_text_style(&legend).pos(Pos::new(HPos::Left, VPos::Center));
            legend.draw(&Text::new(name.as_str(), (36, beside), style))?;
        }
        Ok(())
    }
}

/// Powers of ten around all values; at least one decade.
fn decades(values: impl Iterator<Item = f64> + Clone) -> std::ops::Range<f64> {
    let low = values.clone().fold(f64::INFINITY, f64::min).log10().floor();
    let high = values.fold(f64::MIN_POSITIVE, f64::max).log10().ceil();
    if low.is_finite() { 10_f64.powf(low)..10_f64.powf(high.max(low + 1.0)) } else { 1.0..10.0 }
}

/// Horizontal bars, each split into parts.
#[derive(Debug)]
pub(crate) struct BarPlot {
    pub(crate) title: String,
    /// Names of the parts of a bar, for the legend.
    pub(crate) parts: Vec<String>,
    pub(crate) bars: Vec<Bar>,
}

/// One bar.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    pub(crate) name: String,
    /// Neighbouring bars of one group stand closer together.
    pub(crate) group: String,
    /// Values in the order of the plot's parts.
    pub(crate) values: Vec<f64>,
}

impl BarPlot {
    /// Where bars begin, right of the names.
    const LEFT: i32 = 190;
    /// Length of the longest bar.
    const LONGEST: f64 = 430.0;
    /// Top of the first bar, distance from bar to bar, and thickness of a bar.
    const TOP: i32 = 64;
    const STEP: i32 = 22;
    const THICKNESS: i32 = 15;
    /// Further distance between groups.
    const GAP: i32 = 8;
    /// Approximate width of a letter of the legend.
    const LETTER: i32 = 7;

    pub(crate) fn svg(&self) -> Result<String> {
        let gaps = self.bars.windows(2).filter(|pair| pair[0].group != pair[1].group).count();
        let height = Self::TOP + Self::STEP * self.bars.len() as i32 + Self::GAP * gaps as i32 + 10;
        draw(height as u32, &self.title, |area| self.draw(area))
    }

    fn draw(&self, area: &Area<'_>) -> Result<()> {
        let longest = self.bars.iter().map(|bar| bar.values.iter().sum()).fold(f64::MIN_POSITIVE, f64::max);
        let mut x = Self::LEFT;
        for (name, colour) in self.parts.iter().zip(COLOURS) {
            area.draw(&Rectangle::new([(x, 36), (x + 12, 48)], colour.filled()))?;
            area.draw(&Text::new(name.as_str(), (x + 17, 36), (FONT, 15)))?;
            x += 35 + Self::LETTER * name.len() as i32;
        }
        let mut y = Self::TOP;
        let mut previous: Option<&Bar> = None;
        for bar in &self.bars {
            if previous.is_some_and(|previous| previous.group != bar.group) {
                y += Self::GAP;
            }
            area.draw(&Text::new(bar.name.as_str(), (10, y), (FONT, 15)))?;
            let mut end = f64::from(Self::LEFT);
            for (value, colour) in bar.values.iter().zip(COLOURS) {
                let from = end;
                end += value / longest * Self::LONGEST;
                let corners = [(from.round() as i32, y), (end.round() as i32, y + Self::THICKNESS)];
                area.draw(&Rectangle::new(corners, colour.filled()))?;
            }
            let values: Vec<String> = bar.values.iter().map(|value| format!("{value:.2}")).collect();
            area.draw(&Text::new(values.join(" + "), (end as i32 + 6, y), (FONT, 15)))?;
            y += Self::STEP;
            previous = Some(bar);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bars_scale_to_the_longest_and_parts_follow_each_other() {
        let bar = |name: &str, group: &str, values: &[f64]| Bar {
            name: name.into(),
            group: group.into(),
            values: values.into(),
        };
        let bars = vec![
            bar("far", "one", &[5.0, 2.0, 3.0]),
            bar("near", "one", &[0.5, 0.0, 0.5]),
            bar("other <2>", "two", &[1.0, 0.0, 0.0]),
        ];
        let plot = BarPlot { title: "t".into(), parts: ["pull", "start", "run"].map(String::from).into(), bars };
        let svg = plot.svg().unwrap();
        for part in [
            "<rect x=\"190\" y=\"64\" width=\"215\"",
            "<rect x=\"405\" y=\"64\" width=\"86\"",
            "<rect x=\"491\" y=\"64\" width=\"129\"",
            "5.00 + 2.00 + 3.00",
            "<rect x=\"190\" y=\"86\" width=\"22\"",
            "near",
            "<rect x=\"190\" y=\"116\" width=\"43\"",
            "other &lt;2&gt;",
        ] {
            assert!(svg.contains(part), "{part} is not in\n{svg}");
        }
        assert!(svg.ends_with("</svg>\n"), "{svg}");
        let empty = BarPlot { title: String::new(), parts: Vec::new(), bars: Vec::new() };
        assert!(empty.svg().unwrap().ends_with("</svg>\n"));
    }

    #[test]
    fn axes_span_whole_decades() {
        assert_eq!(decades([0.5, 20.0].into_iter()), 0.1..100.0);
        assert_eq!(decades([1.0].into_iter()), 1.0..10.0);
        assert_eq!(decades(std::iter::empty()), 1.0..10.0);
        let lines = vec![("a".into(), vec![(1.0, 2.0), (3.0, 40.0)])];
        let plot = LinePlot { title: "t".into(), x: "x", y: "y", lines };
        let svg = plot.svg().unwrap();
        assert!(svg.contains("polyline") && svg.contains("#1B6CA8"), "{svg}");
        assert!(LinePlot { lines: Vec::new(), ..plot }.svg().unwrap().ends_with("</svg>\n"));
    }
}
