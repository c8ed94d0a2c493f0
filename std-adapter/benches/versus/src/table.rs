//! The table, in Markdown, and what it was measured on.

use std::fmt::{self, Display, Formatter, Write as _};

use crate::contestants::{ALL, Part};
use crate::measure::Rounds;
use crate::row::Row;

/// What a row's samples gave: the contestants that take part, in order, and the floor last.
#[derive(Debug)]
pub struct Line {
    row: Row,
    rounds: Rounds,
}

impl Line {
    /// A measured row.
    pub const fn new(row: Row, rounds: Rounds) -> Self {
        Self { row, rounds }
    }

    /// Where among a round's times a contestant is found.
    fn place(&self, contestant: usize) -> Option<usize> {
        let takes_part = |entry: &crate::contestants::Entry| !matches!((entry.part)(self.row), Part::Cannot(_));
        takes_part(&ALL[contestant]).then(|| ALL[..contestant].iter().filter(|entry| takes_part(entry)).count())
    }

    /// The median figure of a place, as the row shows it.
    fn figure(&self, of: impl Fn(&[f64]) -> f64) -> String {
        self.row.unit().show(self.rounds.median(of))
    }

    /// The figure, then how many times as long as this project it takes, and as the floor.
    fn cell(&self, place: usize) -> String {
        let this = self.rounds.median(|round| round[place] / round[0]);
        let floor = self.rounds.median(|round| round[place] / floor(round));
        format!("{} ({this:.2} / {floor:.2})", self.figure(|round| round[place]))
    }
}

/// The floor is the last of a round.
fn floor(round: &[f64]) -> f64 {
    round[round.len() - 1]
}

/// The foot-notes so far; equal ones share a number.
#[derive(Debug, Default)]
struct Notes(Vec<String>);

impl Notes {
    fn mark(&mut self, note: &str) -> String {
        let number = self.0.iter().position(|seen| seen == note).unwrap_or_else(|| {
            self.0.push(note.to_owned());
            self.0.len() - 1
        });
        format!(" [{}]", number + 1)
    }
}

/// All rows.
#[derive(Debug)]
pub struct Table(pub Vec<Line>);

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut notes = Notes::default();
        let names = ALL.map(|entry| entry.name).join(" | ");
        writeln!(f, "| (× this project / × floor) | {names} | floor |")?;
        writeln!(f, "|---|{}", "---:|".repeat(ALL.len() + 1))?;
        for line in &self.0 {
            writeln!(f, "{}", show(line, &mut notes)?)?;
        }
        writeln!(f)?;
        for (number, note) in (1..).zip(&notes.0) {
            writeln!(f, "{number}. {note}")?;
        }
        Ok(())
    }
}

fn show(line: &Line, notes: &mut Notes) -> Result<String, fmt::Error> {
    let mut text = format!("| {} |", line.row.what());
    if line.rounds.thrown_away > 0 {
        let rounds = line.rounds.thrown_away;
        text.truncate(text.len() - 2);
        let note = format!("{rounds} rounds thrown away because the cores were moved or busy meanwhile.");
        write!(text, "{} |", notes.mark(&note))?;
    }
    for (contestant, entry) in ALL.iter().enumerate() {
        let cell = line.place(contestant).map_or_else(|| "–".to_owned(), |place| line.cell(place));
        let mark = match (entry.part)(line.row) {
            Part::Plain => String::new(),
            Part::InPlace => notes.mark("Payload written and read in place."),
            Part::Copied => notes.mark("Payload copied: in, out, or both."),
            Part::But(note) | Part::Cannot(note) => notes.mark(note),
        };
        write!(text, " {cell}{mark} |")?;
    }
    write!(text, " {}{} |", line.figure(floor), notes.mark(line.row.floor_is()))?;
    Ok(text)
}
