//! `top`: looks at a session or a hub again and again, and shows what changes. It reads as `inspect` does, so nobody at
//! work notices.
//!
//! | module | what lives there |
//! |---|---|
//! | `view` | what there is to show of a report: rows of text and numbers |
//! | `rates` | what changed between two looks |
//! | `page` | how a view looks |
//! | `screen` | the terminal: taken, drawn on, asked for keys, given back |
//! | `units` | numbers for people |

mod page;
mod rates;
mod screen;
#[cfg(test)]
mod terminal_tests;
mod units;
mod view;

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rapace_shm::inspect::Report;
use ratatui::buffer::Buffer;

use crate::error::Error;
use crate::target::{CannotInspect, Segment, Which};
use rates::Sample;
use screen::{Screen, Wish};
use view::{History, View};

/// Said by `--help`.
pub const KEYS: &str = "Keys: q, Esc or Ctrl-C quits; arrows, page up, page down and Home scroll.\n\
    Exit code: 0 you have quit, 2 there was nothing to look at, or it went away.";

/// Columns of what is printed, where no terminal says how many there are.
const COLUMNS: u16 = 120;

/// What `top` is told.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    which: Which,
    /// Seconds between two looks
    #[arg(long, default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Print one moment as text and end; what is done anyway if standard output is no terminal
    #[arg(long)]
    once: bool,
}

/// An interval that makes sense.
fn seconds(word: &str) -> Result<Duration, String> {
    let said = word.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    said.filter(|interval| (Duration::from_millis(20)..=Duration::from_secs(3600)).contains(interval))
        .ok_or_else(|| "give a number of seconds from 0.02 to 3600".to_owned())
}

/// Watches until the user has seen enough.
pub fn run(options: &Options) -> Result<(), Error> {
    let mut watch = Watch { segment: options.which.open()?, history: History::default(), interval: options.interval };
    if options.once || !io::stdout().is_terminal() {
        return Ok(writeln!(io::stdout().lock(), "{}", watch.once()?.trim_end())?);
    }
    // Before the terminal is taken: what cannot be looked at is said where it stays.
    let first = watch.look()?;
    watch.live(first)
}

/// A segment that is looked at again and again.
struct Watch {
    segment: Segment,
    history: History,
    interval: Duration,
}

impl Watch {
    fn look(&mut self) -> Result<View, CannotInspect> {
        self.segment.expect_there()?;
        let report = self.segment.look(Report::glance)?;
        let sample = Sample::of(&report, Instant::now());
        // Before 1970 there were no peers.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(self.history.next(report, sample, now))
    }

    /// Two looks, as a rate takes two.
    fn once(&mut self) -> Result<String, CannotInspect> {
        self.look()?;
        std::thread::sleep(self.interval);
        let view = self.look()?;
        Ok(page::text(&self.page(&view, COLUMNS)))
    }

    fn page(&self, view: &View, width: u16) -> Buffer {
        let title = format!("{}, every {} s", self.segment.target(), self.interval.as_secs_f64());
        page::page(&title, view, width)
    }

    fn live(&mut self, mut view: View) -> Result<(), Error> {
        let mut screen = Screen::take()?;
        let (mut from, mut deadline) = (0, Instant::now() + self.interval);
        loop {
            from = screen.show(&self.page(&view, screen.width()?), from)?;
            match screen.wish(deadline)? {
                Some(Wish::Quit) => return Ok(()),
                Some(Wish::Scroll(lines)) => from = from.saturating_add_signed(lines),
                Some(Wish::Top) => from = 0,
                Some(Wish::Redraw) => {}
                None => {
                    view = self.look()?;
                    deadline = Instant::now() + self.interval;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_number_of_seconds_that_makes_sense() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for word in ["", "x", "-1", "0", "0.001", "1e99", "inf", "NaN", "3601"] {
            assert!(seconds(word).is_err(), "{word}");
        }
    }
}
