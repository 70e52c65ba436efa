//! Curves as a table and as a picture.

use std::fmt::Write;

use crate::growth::Curve;
use crate::spread::Spread;

/// Returns all curves as one table.
pub fn table(curves: &[Curve]) -> String {
    let mut text = String::from(
        "| what grows | what is pushed | | until the ref is set, ms | until the summary names it, \
         ms |\n\
         |---|---|---|---|---|\n",
    );
    let shown = |spread: Option<Spread>| spread.map_or_else(String::new, |s| s.show(1));
    for curve in curves {
        for (index, point) in curve.points.iter().enumerate() {
            let (name, push) = match index {
                0 => (curve.name, curve.push),
                _ => ("", ""),
            };
            let (set, named) = (shown(point.finalized()), shown(point.summarized()));
            let _ = writeln!(text, "| {name} | {push} | {} | {set} | {named} |", point.at);
        }
    }
    text
}

/// Draws the curves side by side, by powers of ten: size to the right, milliseconds upwards. A
/// constant time is a flat line; a proportional one rises a square for each square.
pub fn svg(curves: &[Curve]) -> String {
    let width = curves.len() as f64 * (PANEL_WIDTH + GAP) + GAP;
    let height = PANEL_HEIGHT + 2.0 * GAP;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{GAP}\" y=\"20\">milliseconds until \
         <tspan fill=\"{SET}\">the ref is set</tspan> and \
         <tspan fill=\"{NAMED}\">the summary names it</tspan></text>\n"
    );
    for (index, curve) in curves.iter().enumerate() {
        let left = index as f64 * (PANEL_WIDTH + GAP) + GAP;
        panel(&mut text, curve, left);
    }
    text += "</svg>\n";
    text
}

fn panel(text: &mut String, curve: &Curve, left: f64) {
    let power = |value: f64| value.max(1.0).log10();
    let median = |spread: Option<Spread>| power(spread.map_or(1.0, |spread| spread.median));
    let values: Vec<(f64, f64, f64)> = curve
        .points
        .iter()
        .map(|point| {
            let (set, named) = (median(point.finalized()), median(point.summarized()));
            (power(point.at as f64), set, named)
        })
        .collect();
    let highest =
        |part: fn(&(f64, f64, f64)) -> f64| values.iter().map(part).fold(1.0, f64::max).ceil();
    let (most, top) = (
        highest(|value| value.0),
        highest(|value| value.1.max(value.2)),
    );
    let bottom = GAP + PANEL_HEIGHT;
    let x = |at: f64| left + at / most * PANEL_WIDTH;
    let y = |value: f64| bottom - value / top * PANEL_HEIGHT;
    for power in 0..=top as u32 {
        let (right, y) = (left + PANEL_WIDTH, y(f64::from(power)));
        let _ = writeln!(
            text,
            "<path d=\"M{left:.1} {y:.1}H{right:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 4.0,
            y + 4.0,
            10_u64.pow(power)
        );
    }
    for power in 0..=most as u32 {
        let _ = writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(f64::from(power)),
            bottom + 15.0,
            10_u64.pow(power)
        );
    }
    let _ = writeln!(
        text,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-weight=\"bold\">{}</text>",
        left + PANEL_WIDTH / 2.0,
        bottom + 32.0,
        curve.name
    );
    let line = |values: &mut dyn Iterator<Item = (f64, f64)>| {
        let points: Vec<String> = values
            .map(|(at, value)| format!("{:.1},{:.1}", x(at), y(value)))
            .collect();
        points.join(" ")
    };
    let set = line(&mut values.iter().map(|value| (value.0, value.1)));
    let named = line(&mut values.iter().map(|value| (value.0, value.2)));
    for (color, points) in [(SET, set), (NAMED, named)] {
        let _ = writeln!(
            text,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>"
        );
    }
}

const PANEL_WIDTH: f64 = 200.0;
const PANEL_HEIGHT: f64 = 180.0;
const GAP: f64 = 50.0;
const SET: &str = "#1f6fb2";
const NAMED: &str = "#c2571a";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::growth::Point;
    use crate::timed::Timed;

    #[test]
    fn curves_become_a_row_a_point_and_two_lines_a_panel() {
        let push = Timed {
            finalized: Duration::from_millis(10),
            summarized: Duration::from_millis(1_000),
        };
        let points = [1, 1_000].map(|at| Point {
            at,
            pushes: vec![push],
        });
        let curves = [Curve {
            name: "refs",
            push: "one",
            points: points.to_vec(),
        }];
        let table = table(&curves);
        assert!(
            table.ends_with("| refs | one | 1 | 10.0 | 1000.0 |\n|  |  | 1000 | 10.0 | 1000.0 |\n")
        );
        let svg = svg(&curves);
        assert_eq!(svg.matches("<polyline").count(), 2);
        // The panel covers 1 to 1,000 ms, and 10 is a third of the way up.
        assert!(svg.contains("points=\"50.0,170.0 250.0,170.0\""), "{svg}");
        assert!(svg.contains("points=\"50.0,50.0 250.0,50.0\""), "{svg}");
    }
}
