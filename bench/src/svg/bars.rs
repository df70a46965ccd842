//! Bars from top to bottom, each split into parts.

use std::fmt::Write as _;

use super::{COLOURS, head};

const WIDTH: f64 = 760.0;
/// Where bars begin, right of the names, and how long the longest is.
const LEFT: f64 = 190.0;
const LONGEST: f64 = 430.0;
/// Where the first bar is, from bar to bar, and how much of that is the bar.
const TOP: f64 = 64.0;
const STEP: f64 = 22.0;
const THICK: f64 = 15.0;
/// Above the first bar of the next group.
const GAP: f64 = 8.0;
/// About how wide a letter of the legend is.
const LETTER: f64 = 6.5;

/// A plot in the making.
#[derive(Debug)]
pub(crate) struct Bars {
    pub(crate) title: String,
    /// What the parts of a bar are; each has a colour.
    pub(crate) parts: Vec<String>,
    pub(crate) bars: Vec<Bar>,
}

/// One bar.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    pub(crate) name: String,
    /// Bars that follow each other and are of one group stand closer.
    pub(crate) group: String,
    /// In the order of the plot's parts.
    pub(crate) values: Vec<f64>,
}

impl Bars {
    pub(crate) fn svg(&self) -> String {
        let most = self.bars.iter().map(|bar| bar.values.iter().sum()).fold(f64::MIN_POSITIVE, f64::max);
        let gaps = self.bars.windows(2).filter(|pair| pair[0].group != pair[1].group).count();
        let height = TOP + STEP * self.bars.len() as f64 + GAP * gaps as f64 + 10.0;
        let mut svg = head(WIDTH, height, 10.0, &self.title);
        let mut x = LEFT;
        for (name, colour) in self.parts.iter().zip(COLOURS) {
            let _ = writeln!(svg, "<rect x=\"{x:.1}\" y=\"36\" width=\"12\" height=\"12\" fill=\"{colour}\"/>");
            let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"47\">{name}</text>", x + 17.0);
            x += 35.0 + LETTER * name.len() as f64;
        }
        let (mut y, mut group) = (TOP, self.bars.first().map(|bar| &bar.group));
        for bar in &self.bars {
            if group.replace(&bar.group) != Some(&bar.group) {
                y += GAP;
            }
            let _ = writeln!(svg, "<text x=\"10\" y=\"{:.1}\">{}</text>", y + 12.0, bar.name);
            let mut x = LEFT;
            let mut values = Vec::new();
            for (value, colour) in bar.values.iter().zip(COLOURS) {
                let width = value / most * LONGEST;
                let _ = writeln!(
                    svg,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{THICK}\" fill=\"{colour}\"/>"
                );
                x += width;
                values.push(format!("{value:.2}"));
            }
            let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", x + 6.0, y + 12.0, values.join(" + "));
            y += STEP;
        }
        svg.push_str("</svg>\n");
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_is_as_long_as_may_be_and_parts_stand_one_after_the_other() {
        let bar = |name: &str, group: &str, values: &[f64]| Bar {
            name: name.into(),
            group: group.into(),
            values: values.into(),
        };
        let bars = vec![
            bar("far", "one", &[5.0, 2.0, 3.0]),
            bar("near", "one", &[0.5, 0.0, 0.5]),
            bar("other", "two", &[1.0, 0.0, 0.0]),
        ];
        let svg = Bars { title: "t".into(), parts: ["pull", "start", "run"].map(String::from).into(), bars }.svg();
        for part in [
            "<rect x=\"190.0\" y=\"64.0\" width=\"215.0\"",
            "<rect x=\"405.0\" y=\"64.0\" width=\"86.0\"",
            "<rect x=\"491.0\" y=\"64.0\" width=\"129.0\"",
            ">5.00 + 2.00 + 3.00<",
            "<rect x=\"190.0\" y=\"86.0\" width=\"21.5\"",
            ">near<",
            "<rect x=\"190.0\" y=\"116.0\" width=\"43.0\"",
        ] {
            assert!(svg.contains(part), "{part} is not in\n{svg}");
        }
        assert!(svg.ends_with("</svg>\n"));
        assert!(Bars { title: String::new(), parts: Vec::new(), bars: Vec::new() }.svg().ends_with("</svg>\n"));
    }
}
