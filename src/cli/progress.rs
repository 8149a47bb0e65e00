//! How far a long command is: a bar on a terminal, else a line every ten seconds; on standard error.

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// A command that ends sooner shows no bar.
const BAR_AFTER: Duration = Duration::from_millis(500);

pub struct Progress {
    verb: &'static str,
    is_terminal: bool,
    bar: Option<ProgressBar>,
    total: Option<u64>,
    started: Instant,
    line_at: Instant,
    events: u64,
}

impl Progress {
    /// `total` and the positions to come are in whatever unit the caller counts the way in.
    pub fn new(verb: &'static str, total: Option<u64>) -> Self {
        let started = Instant::now();
        Self {
            verb,
            is_terminal: io::stderr().is_terminal(),
            bar: None,
            total,
            started,
            line_at: started,
            events: 0,
        }
    }

    /// Whether somebody looks at it right now.
    pub fn is_watched(&self) -> bool {
        self.is_terminal
    }

    /// Notes how far it is. `note` is shown at the end of the line.
    pub fn update(&mut self, position: u64, events: u64, note: &str) {
        self.events = events;
        let rate = self.rate();
        let text = format!("{} {events} events, {rate}/s{note}", self.verb);
        if self.is_terminal {
            if self.started.elapsed() >= BAR_AFTER {
                let bar = self.bar.get_or_insert_with(|| bar(self.total));
                bar.set_position(position);
                bar.set_message(text);
            }
        } else if self.line_at.elapsed() >= LINE_EVERY {
            self.line_at = Instant::now();
            eprintln!("{text}{}", self.remaining(position));
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Writes something else meanwhile, the bar out of the way.
    pub fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Events a second, so far.
    pub fn rate(&self) -> u64 {
        (self.events as f64 / self.started.elapsed().as_secs_f64().max(0.001)) as u64
    }

    fn remaining(&self, position: u64) -> String {
        let Some(total) = self.total.filter(|total| (1..=*total).contains(&position)) else {
            return String::new();
        };
        let done = position as f64 / total as f64;
        let left = self.started.elapsed().mul_f64((1.0 - done) / done);
        format!(", {:.0} %, about {} left", done * 100.0, duration(left))
    }
}

fn bar(total: Option<u64>) -> ProgressBar {
    let template = match total {
        Some(_) => "{bar:30} {percent:>3} % {msg}, {eta} left",
        None => "{spinner} {msg}",
    };
    // The templates are constants; a mistake in one shows the default style.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let target = ProgressDrawTarget::stderr_with_hz(10);
    ProgressBar::with_draw_target(total, target).with_style(style)
}

/// `45 s`, `12 min`, `3 h 20 min`.
pub fn duration(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_remaining_time() {
        let mut progress = Progress::new("sent", Some(100));
        progress.started = Instant::now().checked_sub(Duration::from_secs(300)).unwrap();
        assert_eq!(progress.remaining(25), ", 25 %, about 15 min left");
        assert_eq!(progress.remaining(0), "");
        assert_eq!(duration(Duration::from_secs(12_000)), "3 h 20 min");
        assert_eq!(duration(Duration::from_secs(119)), "119 s");
    }
}
