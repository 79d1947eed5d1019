//! Rows: what was expected, what was seen, and the two ways to print them (demo and test).
//!
//! A row whose `seen` is not `expected` makes the whole run fail, by name.

use std::time::Instant;

/// What a row expects, and what may be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The thing was obtained or done.
    Works,
    /// It was refused before any effect.
    Denied,
    /// The machine took no notice of it.
    Ignored,
    /// Obtained, and Rempart does not claim to stop it.
    NotStopped,
    /// Neither: the attempt itself broke.
    Broken,
}

impl Outcome {
    /// The word in tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Denied => "denied",
            Self::Ignored => "ignored",
            Self::NotStopped => "not stopped",
            Self::Broken => "BROKEN",
        }
    }
}

/// One line of the final table.
#[derive(Debug, Clone)]
pub struct Row {
    /// `scene::name`, unique.
    pub name: String,
    /// What must be seen.
    pub expected: Outcome,
    /// What was seen.
    pub seen: Outcome,
    /// The line that the product said, or what was measured.
    pub said: String,
}

impl Row {
    /// Is it as expected?
    pub fn holds(&self) -> bool {
        self.expected == self.seen
    }
}

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Style {
    /// Steps with progress, tables, a summary.
    Demo,
    /// One `test NAME ... ok|FAILED` line a row.
    Test,
}

/// Collects rows and prints them as they come.
pub struct Report {
    style: Style,
    started: Instant,
    rows: Vec<Row>,
    skipped: Vec<(String, String)>,
    measures: Vec<Measure>,
}

/// One figure of the run, for the benchmarks.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Measure {
    /// What was measured.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: String,
}

impl Report {
    /// An empty report.
    pub fn new(style: Style) -> Self {
        Self {
            style,
            started: Instant::now(),
            rows: Vec::new(),
            skipped: Vec::new(),
            measures: Vec::new(),
        }
    }

    /// Says what happens now.
    pub fn step(&self, text: &str) {
        let seconds = self.started.elapsed().as_secs();
        match self.style {
            Style::Demo => println!("[{:>2}:{:02}] {text}", seconds / 60, seconds % 60),
            Style::Test => eprintln!("[{:>2}:{:02}] {text}", seconds / 60, seconds % 60),
        }
    }

    /// A heading in the demo.
    pub fn heading(&self, text: &str) {
        if self.style == Style::Demo {
            println!("\n== {text}");
        } else {
            self.step(text);
        }
    }

    /// Adds a row.
    pub fn row(&mut self, name: impl Into<String>, expected: Outcome, seen: Outcome, said: impl Into<String>) {
        let row = Row {
            name: name.into(),
            expected,
            seen,
            said: said.into().trim().replace('\n', " / "),
        };
        match self.style {
            Style::Demo => {
                let mark = if row.holds() { "ok " } else { "BAD" };
                println!("  {mark} {:<44} {:<12} {}", row.name, row.seen.word(), row.said);
            }
            Style::Test => {
                let verdict = if row.holds() { "ok" } else { "FAILED" };
                println!("test {} ... {verdict}", row.name);
                if !row.holds() {
                    println!(
                        "  expected {}, saw {}: {}",
                        row.expected.word(),
                        row.seen.word(),
                        row.said
                    );
                }
            }
        }
        self.rows.push(row);
    }

    /// Records a scene that could not be played; it fails.
    pub fn broken(&mut self, name: &str, error: &anyhow::Error) {
        self.row(name, Outcome::Works, Outcome::Broken, format!("{error:#}"));
    }

    /// Records a row that does not apply here, and why.
    pub fn skip(&mut self, name: &str, why: &str) {
        match self.style {
            Style::Demo => println!("  --  {name:<44} skipped      {why}"),
            Style::Test => println!("test {name} ... skipped ({why})"),
        }
        self.skipped.push((name.to_owned(), why.to_owned()));
    }

    /// Records a figure.
    pub fn measure(&mut self, name: &str, value: f64, unit: &str) {
        self.measures.push(Measure {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
        });
    }

    /// Records the time since the start, the first time that `name` is reached.
    pub fn milestone(&mut self, name: &str) {
        if !self.measures.iter().any(|measure| measure.name == name) {
            self.measure(name, self.elapsed(), "s");
        }
    }

    /// Number of rows that do not hold.
    pub fn bad(&self) -> usize {
        self.rows.iter().filter(|row| !row.holds()).count()
    }

    /// Seconds since the start.
    pub fn elapsed(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Writes rows and figures.
    pub fn write_json(&self, path: &std::path::Path) -> anyhow::Result<()> {
        let rows: Vec<_> = self.rows.iter().map(|row| {
            serde_json::json!({"name": row.name, "expected": row.expected.word(), "seen": row.seen.word(), "said": row.said, "ok": row.holds()})
        }).collect();
        let skipped: Vec<_> = self
            .skipped
            .iter()
            .map(|(name, why)| serde_json::json!({"name": name, "why": why}))
            .collect();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let text = serde_json::json!({"rows": rows, "skipped": skipped, "measures": self.measures});
        Ok(std::fs::write(path, serde_json::to_vec_pretty(&text)?)?)
    }

    /// Prints the summary; true when every row holds and there is at least one.
    #[must_use]
    pub fn close(&self) -> bool {
        let bad: Vec<_> = self.rows.iter().filter(|row| !row.holds()).collect();
        if self.style == Style::Demo {
            let good = self.rows.len() - bad.len();
            println!(
                "\n{good} of {} rows as expected, {} skipped, in {:.0} s",
                self.rows.len(),
                self.skipped.len(),
                self.elapsed()
            );
            for row in &bad {
                println!(
                    "  NOT AS EXPECTED: {}: expected {}, saw {}: {}",
                    row.name,
                    row.expected.word(),
                    row.seen.word(),
                    row.said
                );
            }
        }
        !self.rows.is_empty() && bad.is_empty()
    }
}
