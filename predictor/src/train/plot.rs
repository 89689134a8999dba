//! The report's picture: interval and outcome, coverage by year, MAE ratio.
//!
//! In come report and forecasts; out comes SVG text, the same for the same input.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::metric::Forecast;
use super::report::{Report, SOUND_COVERAGE};

const SIZE: (u32, u32) = (960, 640);
const UPPER: u32 = 340;
/// Sessions in the upper panel.
const SHOWN: usize = 120;
const BAND: RGBColor = RGBColor(158, 188, 218);
const LINE: RGBColor = RGBColor(33, 102, 172);
const DOT: RGBColor = RGBColor(60, 60, 60);
const MISS: RGBColor = RGBColor(202, 60, 50);

type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws the picture; the error is what the drawing library said.
pub fn svg(report: &Report, forecasts: &[Forecast]) -> Result<String, String> {
    let mut text = String::new();
    draw(&mut text, report, forecasts).map_err(|error| error.to_string())?;
    Ok(text)
}

fn draw<'a>(text: &'a mut String, report: &Report, forecasts: &[Forecast]) -> Drawn<'a> {
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (upper, lower) = root.split_vertically(UPPER);
    let (left, right) = lower.split_horizontally(SIZE.0 / 2);
    interval_panel(&upper, forecasts)?;
    coverage_panel(&left, report)?;
    ratio_panel(&right, report)?;
    root.present()
}

/// The last sessions of the first symbol: interval, median, outcomes.
fn interval_panel<'a>(area: &Area<'a>, forecasts: &[Forecast]) -> Drawn<'a> {
    let Some(symbol) = forecasts.first().map(|one| one.symbol.clone()) else {
        return Ok(());
    };
    let own: Vec<&Forecast> = forecasts
        .iter()
        .filter(|one| one.symbol == symbol)
        .collect();
    let shown = &own[own.len().saturating_sub(SHOWN)..];
    let percent = |value: f64| value * 100.0;
    let reach = shown
        .iter()
        .flat_map(|one| [one.quantiles.low, one.quantiles.high, one.actual])
        .fold(0.01_f64, |reach, value| reach.max(value.abs()));
    let caption = format!(
        "{symbol}: 80 % interval, median and outcome, last {} sessions (log return, %)",
        shown.len()
    );
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(28)
        .y_label_area_size(44)
        .build_cartesian_2d(
            0..shown.len().max(1),
            -percent(reach) * 1.05..percent(reach) * 1.05,
        )?;
    let day = |index: &usize| {
        shown
            .get(*index)
            .map_or(String::new(), |one| one.target_date.to_string())
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .x_labels(7)
        .x_label_formatter(&day)
        .draw()?;
    let lower_edge = shown
        .iter()
        .enumerate()
        .map(|(index, one)| (index, percent(one.quantiles.low)));
    let upper_edge = shown
        .iter()
        .enumerate()
        .rev()
        .map(|(index, one)| (index, percent(one.quantiles.high)));
    let band: Vec<(usize, f64)> = lower_edge.chain(upper_edge).collect();
    chart.draw_series(std::iter::once(Polygon::new(band, BAND.mix(0.6))))?;
    let median = shown
        .iter()
        .enumerate()
        .map(|(index, one)| (index, percent(one.quantiles.median)));
    chart.draw_series(LineSeries::new(median, LINE.stroke_width(2)))?;
    chart.draw_series(shown.iter().enumerate().map(|(index, one)| {
        let inside = (one.quantiles.low..=one.quantiles.high).contains(&one.actual);
        Circle::new(
            (index, percent(one.actual)),
            2,
            if inside { DOT } else { MISS }.filled(),
        )
    }))?;
    Ok(())
}

/// Coverage of each year; the grey band is what counts as sound for all years together.
fn coverage_panel<'a>(area: &Area<'a>, report: &Report) -> Drawn<'a> {
    let years: Vec<(String, f64)> = report
        .by_year
        .iter()
        .map(|(year, of)| (year.to_string(), of.interval.coverage))
        .chain([("pooled".to_owned(), report.pooled.interval.coverage)])
        .collect();
    let caption = "Coverage of the 80 % interval (sound when pooled in the grey band)";
    let sound = (SOUND_COVERAGE.start() * 100.0, SOUND_COVERAGE.end() * 100.0);
    points(
        area,
        caption,
        &scaled(&years, 100.0),
        60.0..100.0,
        80.0,
        Some(sound),
        1,
    )
}

/// MAE of the model over that of the random walk.
fn ratio_panel<'a>(area: &Area<'a>, report: &Report) -> Drawn<'a> {
    let symbols: Vec<(String, f64)> = report
        .by_symbol
        .iter()
        .map(|(name, of)| (name.clone(), of.mae_ratio))
        .chain([("pooled".to_owned(), report.pooled.mae_ratio)])
        .collect();
    let reach = symbols.iter().fold(0.02_f64, |reach, (_, ratio)| {
        reach.max((ratio - 1.0).abs() * 1.3)
    });
    points(
        area,
        "MAE, model / random walk (below 1 is better)",
        &symbols,
        1.0 - reach..1.0 + reach,
        1.0,
        None,
        4,
    )
}

fn scaled(values: &[(String, f64)], factor: f64) -> Vec<(String, f64)> {
    values
        .iter()
        .map(|(name, value)| (name.clone(), value * factor))
        .collect()
}

/// Named values beside a reference line.
fn points<'a>(
    area: &Area<'a>,
    caption: &str,
    values: &[(String, f64)],
    range: std::ops::Range<f64>,
    reference: f64,
    band: Option<(f64, f64)>,
    decimals: usize,
) -> Drawn<'a> {
    let end = values.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 14))
        .margin(10)
        .x_label_area_size(28)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..end, range.clone())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .light_line_style(WHITE)
        .draw()?;
    if let Some((low, high)) = band {
        chart.draw_series(std::iter::once(Rectangle::new(
            [(0.0, low), (end, high)],
            BLACK.mix(0.08).filled(),
        )))?;
    }
    chart.draw_series(LineSeries::new(
        [(0.0, reference), (end, reference)],
        BLACK.mix(0.5),
    ))?;
    let label = ("sans-serif", 12).into_font();
    let step = (range.end - range.start) / 40.0;
    for (index, (name, value)) in values.iter().enumerate() {
        let at = index as f64 + 0.5;
        let is_pooled = index + 1 == values.len();
        chart.draw_series(std::iter::once(Circle::new(
            (at, *value),
            4,
            if is_pooled { MISS } else { LINE }.filled(),
        )))?;
        let number = Text::new(
            format!("{value:.decimals$}"),
            (at + 0.08, value + step * 3.0),
            label.clone(),
        );
        let below = Text::new(
            name.clone(),
            (at - 0.2, range.start + step * 1.5),
            label.clone(),
        );
        chart.draw_series([number, below])?;
    }
    Ok(())
}
