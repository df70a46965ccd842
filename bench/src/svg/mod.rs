//! Plots as SVG files.

mod bars;
mod lines;

pub(crate) use bars::{Bar, Bars};
pub(crate) use lines::Plot;

const COLOURS: [&str; 8] = ["#1b6ca8", "#d1495b", "#edae49", "#3d8f5f", "#7b5ea7", "#c97b3a", "#222222", "#999999"];

/// What a plot of this size begins with.
fn head(width: f64, height: f64, left: f64, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/>\
         <text x=\"{left}\" y=\"22\" font-size=\"15\">{title}</text>\n"
    )
}
