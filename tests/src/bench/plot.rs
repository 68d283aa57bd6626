//! A section as a picture: a panel for each figure, in it a line for each subject with its quartiles, median, p99 and
//! range, on a logarithmic axis.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::section::{Row, Section};

type Panel<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const WIDTH: u32 = 1000;
const LINE: u32 = 26;
const HEAD: u32 = 74;
const LABELS: u32 = 340;

/// hostprobe's own, and the others'.
const OWN: RGBColor = RGBColor(0xD9, 0x5F, 0x02);
const OTHER: RGBColor = RGBColor(0x44, 0x6B, 0x9E);

/// Whether there is anything to draw of a section: a figure of more than one subject.
pub fn shows(section: &Section) -> bool {
    section.rows.iter().any(drawn)
}

fn drawn(row: &Row) -> bool {
    row.series.len() > 1
}

/// Draws a section into a file, if there is anything to draw.
pub fn section(section: &Section, path: &Path) -> Result<()> {
    let rows: Vec<&Row> = section.rows.iter().filter(|row| drawn(row)).collect();
    let heights: Vec<u32> = rows.iter().map(|row| HEAD + LINE * row.series.len() as u32).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let wrong = |error: &dyn std::fmt::Display| anyhow!("cannot draw {}: {error}", path.display());
    let root = SVGBackend::new(path, (WIDTH, heights.iter().sum())).into_drawing_area();
    root.fill(&WHITE).map_err(|error| wrong(&error))?;
    let mut rest = root.clone();
    for (row, height) in rows.iter().zip(heights) {
        let (panel, below) = rest.split_vertically(height);
        draw(&panel, row).map_err(|error| wrong(&error))?;
        rest = below;
    }
    root.present().map_err(|error| wrong(&error))
}

fn draw(panel: &Panel<'_>, row: &Row) -> Result<(), Box<dyn std::error::Error>> {
    let amounts = row.series.iter().flat_map(|series| [series.summary.min, series.summary.max]);
    let positive: Vec<f64> = amounts.filter(|amount| *amount > 0.0).collect();
    let least = positive.iter().copied().fold(f64::INFINITY, f64::min);
    let most = positive.iter().copied().fold(0.0, f64::max);
    if most == 0.0 {
        return Ok(());
    }
    // A logarithmic axis has no zero: what is not above it is drawn at the left edge.
    let axis = (least / 1.5..most * 1.5).log_scale();
    let last = row.series.len() as f64;
    let mut chart = ChartBuilder::on(panel)
        .caption(&row.figure, ("sans-serif", 17))
        .margin_right(30)
        .x_label_area_size(26)
        .y_label_area_size(LABELS)
        .build_cartesian_2d(axis, 0.0..last)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_labels(8)
        .x_label_formatter(&|amount| row.unit.show(*amount))
        .light_line_style(BLACK.mix(0.06))
        .draw()?;
    let edge = least / 1.5;
    for (at, series) in row.series.iter().enumerate() {
        let y = last - at as f64 - 0.5;
        let colour = if series.subject.starts_with("hostprobe") { OWN } else { OTHER };
        let it = &series.summary;
        let clip = |amount: f64| amount.max(edge);
        let line = |from: f64, to: f64, half: f64, style: ShapeStyle| {
            Rectangle::new([(clip(from), y - half), (clip(to), y + half)], style)
        };
        chart.draw_series([
            line(it.min, it.max, 0.03, colour.mix(0.5).filled()),
            line(it.p25, it.p75, 0.22, colour.mix(0.5).filled()),
        ])?;
        for (amount, half) in [(it.median, 0.34), (it.p99, 0.16)] {
            let mark = [(clip(amount), y - half), (clip(amount), y + half)];
            chart.draw_series([PathElement::new(mark, colour.stroke_width(2))])?;
        }
        let (x, y) = chart.backend_coord(&(edge, y));
        let (left, top) = panel.get_base_pixel();
        let right = Pos::new(HPos::Right, VPos::Center);
        let style = ("sans-serif", 14).into_font().into_text_style(panel).pos(right);
        let label = format!("{}  {}", series.subject, row.unit.show(it.median));
        panel.draw(&Text::new(label, (x - left - 8, y - top), style))?;
    }
    Ok(())
}
