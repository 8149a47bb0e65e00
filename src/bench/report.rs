//! What was measured: percentiles, medians over runs, and their two forms, a table and JSON.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::process::{Server, Usage, own_cpu_time};

/// Latencies up to this are told apart; longer ones count as this.
const LONGEST: Duration = Duration::from_secs(120);
/// Notes on what went wrong that are kept.
const EXAMPLES: usize = 5;

/// Latencies, to three digits.
pub struct Latencies(Histogram<u64>);

impl Latencies {
    pub fn new() -> Self {
        let longest = LONGEST.as_nanos() as u64;
        // Constant bounds, which are in order.
        #[expect(clippy::expect_used)]
        Self(Histogram::new_with_bounds(1_000, longest, 3).expect("bounds in order"))
    }

    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(latency.as_nanos() as u64);
    }

    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Milliseconds that `quantile` of the latencies do not exceed.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e6
    }
}

/// Named figures, in the order in which they are shown. A name ends in its unit.
#[derive(Debug, Default)]
pub struct Figures(Vec<(String, f64)>);

impl Figures {
    pub fn add(&mut self, name: impl Into<String>, value: f64) {
        self.0.push((name.into(), value));
    }

    /// p50, p90, p99 and the greatest, if there are any.
    pub fn add_latencies(&mut self, name: &str, latencies: &Latencies) {
        if latencies.len() == 0 {
            return;
        }
        for (part, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)] {
            self.add(format!("{name}_{part}_ms"), latencies.quantile_ms(quantile));
        }
    }
}

/// What went wrong, summed over all runs.
#[derive(Debug, Default)]
pub struct Problems {
    /// Deliveries due that never came.
    pub lost: u64,
    /// Deliveries that came once more.
    pub duplicate: u64,
    /// Deliveries to a subscription that does not match, or of an event that was refused.
    pub unexpected: u64,
    /// Answers to queries that do not hold what they must.
    pub wrong_answers: u64,
    /// Events answered with `OK false`.
    pub refused: u64,
    /// Events and queries without an answer.
    pub unanswered: u64,
    /// Subscriptions that the relay closed.
    pub closed: u64,
    /// Connections that the relay ended.
    pub evicted: u64,
    /// `NOTICE` messages. Alone no failure.
    pub notices: u64,
    examples: Vec<String>,
}

impl Problems {
    /// Notes what went wrong; the first few notes are kept.
    pub fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(text());
        }
    }

    /// The first example as the end of an error's text.
    pub fn first_example(&self) -> String {
        self.examples.first().map(|text| format!("; {text}")).unwrap_or_default()
    }

    fn counts(&self) -> [(&'static str, u64); 9] {
        [
            ("lost", self.lost),
            ("duplicate", self.duplicate),
            ("unexpected", self.unexpected),
            ("wrong_answers", self.wrong_answers),
            ("refused", self.refused),
            ("unanswered", self.unanswered),
            ("closed", self.closed),
            ("evicted", self.evicted),
            ("notices", self.notices),
        ]
    }

    /// Whether the relay broke its word anywhere.
    pub fn is_failure(&self) -> bool {
        self.counts().iter().any(|&(name, count)| count > 0 && name != "notices")
    }
}

/// The figures of one run, by section: one section, or one a query shape.
pub type Run = Vec<(String, Figures)>;

/// All runs of a command.
pub struct Report {
    pub command: &'static str,
    pub settings: Value,
    pub runs: Vec<Run>,
    pub problems: Problems,
}

impl Report {
    /// The medians, by section.
    fn medians(&self) -> Run {
        let Some(first) = self.runs.first() else { return Vec::new() };
        let of_section = |section: &String, figures: &Figures| {
            let mut medians = Figures::default();
            for (name, _) in &figures.0 {
                let values = self
                    .runs
                    .iter()
                    .flatten()
                    .filter(|(other, _)| other == section)
                    .filter_map(|(_, figures)| figures.0.iter().find(|(other, _)| other == name));
                medians.add(name.clone(), median(values.map(|(_, value)| *value).collect()));
            }
            (section.clone(), medians)
        };
        first.iter().map(|(section, figures)| of_section(section, figures)).collect()
    }

    pub fn to_json(&self) -> Value {
        let problems: Map<_, _> =
            self.problems.counts().iter().map(|&(name, count)| (name.to_owned(), count.into())).collect();
        json!({
            "bench": self.command,
            "settings": self.settings,
            "median": run_json(&self.medians()),
            "runs": self.runs.iter().map(run_json).collect::<Vec<_>>(),
            "problems": problems,
            "examples": self.problems.examples,
        })
    }

    /// For people: a line a figure, a column a section.
    pub fn to_text(&self) -> String {
        let medians = self.medians();
        let runs = self.runs.len();
        let mut text =
            format!("{} ({runs} run{})\n", self.command, if runs == 1 { "" } else { "s, medians" });
        if medians.len() > 1 {
            let names: String = medians.iter().map(|(section, _)| format!(" {section:>9}")).collect();
            text += &format!("  {:<36}{names}\n", "");
        }
        for (row, (name, _)) in medians.first().map_or(&[][..], |(_, figures)| &figures.0).iter().enumerate()
        {
            let values =
                medians.iter().map(|(_, figures)| figures.0.get(row).map_or(0.0, |(_, value)| *value));
            let values: String = values.map(|value| format!(" {:>9}", number(value))).collect();
            text += &format!("  {:<36}{values}\n", name.replace('_', " "));
        }
        let problems: Vec<_> = self.problems.counts().into_iter().filter(|(_, count)| *count > 0).collect();
        if problems.is_empty() {
            text += "  nothing lost, doubled, refused or unanswered\n";
        }
        for (name, count) in problems {
            text += &format!("  {:<36} {count:>9}\n", name.replace('_', " ").to_uppercase());
        }
        for example in &self.problems.examples {
            text += &format!("  note: {example}\n");
        }
        text
    }
}

fn run_json(run: &Run) -> Value {
    let section = |figures: &Figures| {
        Value::Object(figures.0.iter().map(|(name, value)| (name.clone(), rounded(*value).into())).collect())
    };
    match run.as_slice() {
        [(_, figures)] => section(figures),
        sections => {
            Value::Object(sections.iter().map(|(name, figures)| (name.clone(), section(figures))).collect())
        }
    }
}

/// To about five digits: what follows is noise.
fn rounded(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.4}"),
    }
}

/// The median; of an even number of values the mean of the middle two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.get(middle) {
        None => 0.0,
        Some(value) if values.len() % 2 == 1 => *value,
        Some(value) => (values[middle - 1] + value) / 2.0,
    }
}

/// What the server and this process use from a moment on.
pub struct Meter<'a> {
    server: Option<&'a Server>,
    usage: Usage,
    own: Duration,
    start: Instant,
}

/// What was used since then.
pub struct Cost {
    /// `None` without `--pid`.
    pub server_cpu_seconds: Option<f64>,
    pub seconds: f64,
    /// How busy this process was; near 100 % it is the generator that was measured.
    pub generator_percent: f64,
}

impl<'a> Meter<'a> {
    pub fn start(server: Option<&'a Server>) -> anyhow::Result<Self> {
        let usage = server.map_or(Ok(Usage::default()), Server::usage)?;
        Ok(Self { server, usage, own: own_cpu_time()?, start: Instant::now() })
    }

    pub fn stop(&self) -> anyhow::Result<Cost> {
        let seconds = self.start.elapsed().as_secs_f64();
        let own = own_cpu_time()?.saturating_sub(self.own).as_secs_f64();
        let server = self.server.map(Server::usage).transpose()?;
        let server_cpu_seconds = server.map(|usage| usage.cpu.saturating_sub(self.usage.cpu).as_secs_f64());
        Ok(Cost { server_cpu_seconds, seconds, generator_percent: 100.0 * own / seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_list() {
        let mut latencies = Latencies::new();
        let mut sorted = Vec::new();
        for index in 0..10_000_u64 {
            let micros = 50 + index * index / 1_000;
            latencies.record(Duration::from_micros(micros));
            sorted.push(micros as f64 / 1_000.0);
        }
        for quantile in [0.5, 0.9, 0.99, 1.0] {
            let exact = sorted[(quantile * 10_000.0) as usize - 1];
            let read = latencies.quantile_ms(quantile);
            assert!((read - exact).abs() <= exact * 0.001, "{quantile}: {read} {exact}");
        }
        latencies.record(Duration::from_secs(100_000));
        assert!(latencies.quantile_ms(1.0) < 130_000.0);
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn reports_medians_and_problems() {
        let run = |value| {
            let mut figures = Figures::default();
            figures.add("cpu_us_per_event", value);
            vec![("ingest".to_owned(), figures)]
        };
        let mut report = Report {
            command: "ingest",
            settings: json!({}),
            runs: vec![run(9.0), run(1.0), run(2.123_456_7)],
            problems: Problems { notices: 1, ..Problems::default() },
        };
        assert_eq!(report.to_json()["median"]["cpu_us_per_event"], 2.1235);
        assert!(!report.problems.is_failure());
        report.problems.lost = 2;
        assert!(report.problems.is_failure());
        assert!(report.to_text().contains("LOST"));
        assert_eq!(report.to_json()["problems"]["lost"], 2);
    }
}
