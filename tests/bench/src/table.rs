//! Rows of a benchmark: printed as a table, written to `target/bench/NAME.json` in the checkout.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use rempart_harness::repository;
use serde::{Deserialize, Serialize};

/// One figure.
#[derive(Debug, Serialize)]
pub struct Row {
    name: String,
    value: f64,
    unit: String,
    /// The same without Rempart.
    baseline: Option<f64>,
    /// `value / baseline`.
    ratio: Option<f64>,
    /// At most this, in `unit`; at least this where a higher figure is better.
    aim: Option<f64>,
    met: Option<bool>,
}

/// The figures of one benchmark, and what must be known to read them. The file holds the figures alone, as a list.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Table {
    /// Adds a figure whose aim is to be not above.
    pub fn add(&mut self, name: &str, value: f64, unit: &str, baseline: Option<f64>, aim: Option<f64>) {
        self.row(name, value, unit, baseline, aim, aim.map(|aim| value <= aim));
    }

    /// Adds a figure whose aim is to be not below.
    pub fn at_least(&mut self, name: &str, value: f64, unit: &str, baseline: Option<f64>, aim: Option<f64>) {
        self.row(name, value, unit, baseline, aim, aim.map(|aim| value >= aim));
    }

    /// Adds a line below the table.
    pub fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    fn row(&mut self, name: &str, value: f64, unit: &str, baseline: Option<f64>, aim: Option<f64>, met: Option<bool>) {
        self.rows.push(Row {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            baseline,
            ratio: baseline.filter(|base| *base > 0.0).map(|base| value / base),
            aim,
            met,
        });
    }

    /// Prints and writes it.
    pub fn publish(&self, name: &str) -> Result<()> {
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        let width = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        let units = self.rows.iter().map(|row| row.unit.chars().count()).max().unwrap_or(0);
        println!(
            "{:<width$} {:>10} {:<units$} {:>10} {:>7} {:>8}",
            name, "value", "unit", "baseline", "ratio", "aim"
        );
        for row in &self.rows {
            let met = match row.met {
                None => "",
                Some(true) => " met",
                Some(false) => " MISSED",
            };
            let (baseline, ratio, aim) = (number(row.baseline), number(row.ratio), number(row.aim));
            println!(
                "{:<width$} {:>10.2} {:<units$} {baseline:>10} {ratio:>7} {aim:>8}{met}",
                row.name, row.value, row.unit
            );
        }
        self.notes.iter().for_each(|note| println!("{note}"));
        let folder = repository().join("target/bench");
        fs::create_dir_all(&folder)?;
        let file = folder.join(format!("{name}.json"));
        fs::write(&file, serde_json::to_vec_pretty(&self.rows)?)?;
        println!("{}", file.display());
        Ok(())
    }
}

#[derive(Deserialize)]
struct Scenes {
    measures: Vec<Measure>,
}

#[derive(Deserialize)]
struct Measure {
    name: String,
    value: f64,
    unit: String,
}

/// The figures in what rempart-scenes wrote.
pub fn of_scenes(file: &Path) -> Result<Table> {
    let text = fs::read(file).with_context(|| file.display().to_string())?;
    let scenes: Scenes = serde_json::from_slice(&text).context("not what rempart-scenes writes")?;
    let mut table = Table::default();
    for measure in scenes.measures {
        table.add(&measure.name, measure.value, &measure.unit, None, None);
    }
    Ok(table)
}

/// The value below which the share `part` of `values` lies (nearest rank).
pub fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_seen() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((percentile(&values, 0.5), percentile(&values, 0.99)), (50.0, 99.0));
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
    }

    #[test]
    fn an_aim_is_met_or_missed_and_no_aim_is_neither() {
        let mut table = Table::default();
        table.add("a", 5.0, "ms", Some(2.0), Some(5.0));
        table.add("b", 5.1, "ms", None, Some(5.0));
        table.add("c", 1.0, "ms", None, None);
        table.at_least("d", 1.0, "/s", None, Some(2.0));
        assert_eq!(
            table.rows.iter().map(|row| row.met).collect::<Vec<_>>(),
            [Some(true), Some(false), None, Some(false)]
        );
        assert_eq!(table.rows[0].ratio, Some(2.5));
    }
}
