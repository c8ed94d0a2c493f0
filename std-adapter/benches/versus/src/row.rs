//! The rows of the table.

use std::time::Duration;

use crate::floor;
use crate::measure::{Plan, Unit, median_batch};
use crate::work::{Filled, Link, Marked, Work, first_side, second_side};

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// Round trip, 8 bytes, both sides spinning.
    Inline,
    /// Round trip, 64 bytes of payload.
    Bytes64,
    /// Round trip, 4 KiB of payload.
    KiB4,
    /// Round trip, 1 MiB of payload.
    MiB1,
    /// One way, 64-byte descriptors.
    OneWay,
    /// One way, 1 KiB of payload.
    OneWayKiB1,
    /// Round trip, both sides asleep in between.
    Asleep,
}

/// Runs `$f::<W>($arguments)` with the row's kind of message.
macro_rules! with_work {
    ($row:expr, $f:ident($($argument:expr),*)) => {
        match $row {
            Row::Inline | Row::Asleep => $f::<Marked<8>>($($argument),*),
            Row::Bytes64 => $f::<Marked<64>>($($argument),*),
            Row::KiB4 => $f::<Marked<4096>>($($argument),*),
            Row::MiB1 => $f::<Marked<1_048_576>>($($argument),*),
            Row::OneWay => $f::<Marked<0>>($($argument),*),
            Row::OneWayKiB1 => $f::<Filled<1024>>($($argument),*),
        }
    };
}

impl Row {
    /// In the table's order.
    pub const ALL: [Self; 7] =
        [Self::Inline, Self::Bytes64, Self::KiB4, Self::MiB1, Self::OneWay, Self::OneWayKiB1, Self::Asleep];

    /// How the row is called.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Inline => "round trip, 8 B",
            Self::Bytes64 => "round trip, 64 B payload",
            Self::KiB4 => "round trip, 4 KiB payload",
            Self::MiB1 => "round trip, 1 MiB payload",
            Self::OneWay => "one way, 64 B descriptors",
            Self::OneWayKiB1 => "one way, 1 KiB payload",
            Self::Asleep => "round trip, 8 B, both asleep in between",
        }
    }

    /// Bytes of payload; 0 for a bare descriptor.
    pub const fn len(self) -> usize {
        const fn len<W: Work>() -> usize {
            W::LEN
        }
        with_work!(self, len())
    }

    /// Bytes of a message of those that have no descriptor.
    pub const fn wire(self) -> usize {
        const fn wire<W: Work>() -> usize {
            W::WIRE
        }
        with_work!(self, wire())
    }

    /// Whether messages go one way only.
    pub const fn is_one_way(self) -> bool {
        matches!(self, Self::OneWay | Self::OneWayKiB1)
    }

    /// Messages that may be under way: what each contestant's queues and pools are made for.
    pub const fn depth(self) -> u32 {
        match self {
            Self::OneWay => 256,
            Self::OneWayKiB1 => 64,
            _ => 8,
        }
    }

    /// How it reads.
    pub const fn unit(self) -> Unit {
        if self.is_one_way() { Unit::Rate } else { Unit::Time }
    }

    /// How much to measure. A batch is to last much longer than reading the clock does. Messages that go one way are
    /// counted, so a limit does not end them.
    pub fn plan(self, plan: &Plan) -> Plan {
        let counted = |batch| Plan { batch: plan.batch * batch, count: plan.count.min(64), ..*plan };
        match self {
            Self::Inline | Self::Bytes64 | Self::KiB4 => *plan,
            Self::MiB1 => plan.slower(2),
            Self::OneWay => counted(64),
            Self::OneWayKiB1 => counted(16),
            Self::Asleep => plan.slower(8),
        }
    }

    /// The first side's part.
    pub fn first_side(self, link: &mut impl Link, plan: &Plan) -> f64 {
        let plan = self.plan(plan);
        with_work!(self, first_side(link, &plan, self.is_one_way()))
    }

    /// The second side's part; `total` is how many messages go one way.
    pub fn second_side(self, link: &mut impl Link, total: u64) {
        with_work!(self, second_side(link, self.is_one_way().then_some(total)))
    }

    /// Nanoseconds that the machine itself takes for it.
    pub fn floor(self, plan: &Plan) -> f64 {
        let plan = &self.plan(plan);
        match self {
            Self::Inline | Self::Bytes64 | Self::KiB4 | Self::MiB1 => floor::round_trip(plan),
            Self::OneWay => write_only::<Filled<64>>(plan),
            Self::OneWayKiB1 => write_only::<Filled<1024>>(plan),
            // Its two threads count, too.
            Self::Asleep => floor::futex_round_trip(&Plan { count: plan.count.min(64), limit: Duration::MAX, ..*plan }),
        }
    }

    /// What that is.
    pub const fn floor_is(self) -> &'static str {
        match self {
            Self::Inline | Self::Bytes64 | Self::KiB4 | Self::MiB1 => {
                "64 bytes and a flag each way between two spinning threads, whatever the size of the payload."
            }
            Self::OneWay | Self::OneWayKiB1 => "Writing as many bytes to private memory: one thread, nobody reads.",
            Self::Asleep => "Two threads that wake each other by futex.",
        }
    }
}

/// Nanoseconds to write the payload in private memory.
fn write_only<W: Work>(plan: &Plan) -> f64 {
    let mut payload = vec![0; W::LEN];
    let mut number = 0;
    median_batch(plan, || {
        W::write(&mut payload, number);
        number += 1;
        std::hint::black_box(&mut payload);
    })
}
