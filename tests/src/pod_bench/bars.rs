//! The plot: a bar for each case, its time split into pull, start and run.

use std::fmt::Write as _;

use crate::report::Case;

const WIDTH: f64 = 760.0;
/// Where bars begin, right of the names, and how long the longest is.
const LEFT: f64 = 150.0;
const LONGEST: f64 = 470.0;
/// Where the first bar is, from bar to bar, and how much of that is the bar.
const TOP: f64 = 64.0;
const STEP: f64 = 22.0;
const THICK: f64 = 15.0;
/// Takes one of a case's times.
type Part = fn(&Case) -> f64;
const PARTS: [(&str, &str, Part); 3] = [
    ("pull", "#1b6ca8", |case| case.pull_s),
    ("sandbox, create, start", "#edae49", |case| case.start_s),
    ("run", "#3d8f5f", |case| case.run_s),
];

/// Bars from top to bottom; to the right of each its times in seconds.
pub(super) fn svg(cases: &[Case]) -> String {
    let sum = |case: &Case| PARTS.iter().map(|(.., part)| part(case)).sum::<f64>();
    let most = cases.iter().map(sum).fold(f64::MIN_POSITIVE, f64::max);
    let height = TOP + STEP * cases.len() as f64 + 10.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/>\
         <text x=\"10\" y=\"22\" font-size=\"15\">A Python program in a pod: seconds</text>\n"
    );
    for (number, (name, colour, _)) in PARTS.iter().enumerate() {
        let x = LEFT + 60.0 * number as f64 + if number == 2 { 100.0 } else { 0.0 };
        let _ = writeln!(svg, "<rect x=\"{x}\" y=\"36\" width=\"12\" height=\"12\" fill=\"{colour}\"/>");
        let _ = writeln!(svg, "<text x=\"{}\" y=\"47\">{name}</text>", x + 17.0);
    }
    for (number, case) in cases.iter().enumerate() {
        let y = TOP + STEP * number as f64;
        let _ = writeln!(svg, "<text x=\"10\" y=\"{:.1}\">{}</text>", y + 12.0, case.name);
        let mut x = LEFT;
        let mut times = Vec::new();
        for (_, colour, part) in PARTS {
            let width = part(case) / most * LONGEST;
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{THICK}\" fill=\"{colour}\"/>"
            );
            x += width;
            times.push(format!("{:.2}", part(case)));
        }
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", x + 6.0, y + 12.0, times.join(" + "));
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_is_as_long_as_may_be_and_parts_stand_one_after_the_other() {
        let case = |name: &str, pull_s, start_s, run_s| Case {
            name: name.to_owned(),
            pull_s,
            start_s,
            run_s,
            ..Case::default()
        };
        let svg = svg(&[case("far", 5.0, 2.0, 3.0), case("near", 0.5, 0.0, 0.5)]);
        for part in [
            "<rect x=\"150.0\" y=\"64.0\" width=\"235.0\"",
            "<rect x=\"385.0\" y=\"64.0\" width=\"94.0\"",
            "<rect x=\"479.0\" y=\"64.0\" width=\"141.0\"",
            ">5.00 + 2.00 + 3.00<",
            "<rect x=\"150.0\" y=\"86.0\" width=\"23.5\"",
            ">near<",
        ] {
            assert!(svg.contains(part), "{part} is not in\n{svg}");
        }
        assert!(svg.ends_with("</svg>\n"));
    }
}
