//! Who takes part, and in which rows.

mod futures;
mod hub;
mod iceoryx;
mod ours;
mod published;
mod published_hub;
mod rtrb;
mod socket;

pub use iceoryx::sweep;

use crate::measure::Plan;
use crate::row::Row;
use crate::second::{Job, Second};
use crate::work::Link;

/// How a contestant moves the payload of a row, or why it does not take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// There is no payload apart from the message.
    Plain,
    /// Written and read where it lies.
    InPlace,
    /// Copied in or out.
    Copied,
    /// As it says.
    But(&'static str),
    /// It cannot, because.
    Cannot(&'static str),
}

/// Both sides of a contestant.
pub trait Contestant {
    /// One side of its connection.
    type Link: Link;

    /// Its part in a row.
    fn part(row: Row) -> Part;

    /// Makes the first side and starts the second. `contestant` is this one's place in [`ALL`].
    fn start(contestant: usize, row: Row, plan: &Plan) -> (Self::Link, Second);

    /// The second side, in the process that was started for it.
    fn second(job: &Job) -> Self::Link;
}

/// A contestant as the table sees it.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The column's title.
    pub name: &'static str,
    /// Its part in a row.
    pub part: fn(Row) -> Part,
    /// One sample: nanoseconds per operation.
    pub sample: fn(usize, Row, &Plan) -> f64,
    /// The whole second process.
    pub second: fn(&Job),
}

impl Entry {
    const fn of<C: Contestant>(name: &'static str) -> Self {
        Self { name, part: C::part, sample: sample::<C>, second: second::<C> }
    }
}

/// In the table's order; this project first.
pub const ALL: [Entry; 9] = [
    Entry::of::<ours::Ours>("rapace-shm"),
    Entry::of::<futures::Futures>("in futures"),
    Entry::of::<hub::Hub>("as a hub"),
    Entry::of::<published::Transport>("rapace-transport-shm 0.4.0"),
    Entry::of::<published::Polled>("its rings alone"),
    Entry::of::<published_hub::Hub>("its hub"),
    Entry::of::<iceoryx::Iceoryx>("iceoryx2 0.10"),
    Entry::of::<rtrb::Rtrb>("rtrb 0.3"),
    Entry::of::<socket::Socket>("Unix socket"),
];

/// A connection and a second side of its own for each sample: nobody's second side is about while others are measured.
fn sample<C: Contestant>(contestant: usize, row: Row, plan: &Plan) -> f64 {
    let (mut link, second) = C::start(contestant, row, plan);
    let time = row.first_side(&mut link, plan);
    second.finish();
    time
}

fn second<C: Contestant>(job: &Job) {
    job.row().second_side(&mut C::second(job), job.total());
}
