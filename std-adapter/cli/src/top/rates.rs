//! What changed between two looks: heads and tails only grow, so their difference is what was sent and received.

use std::collections::BTreeMap;
use std::time::Instant;

use rapace_shm::inspect::{MemberReport, Report, RingReport};

/// What a ring is called.
pub const SESSION_RINGS: [&str; 2] = ["A→B", "B→A"];

/// The names of a plugin's rings, the one to the host first.
pub fn hub_rings(plugin: u16) -> [String; 2] {
    [format!("{plugin}→host"), format!("host→{plugin}")]
}

/// Whether a plugin is there, or was and has not been reaped.
pub fn is_there(member: &MemberReport) -> bool {
    member.is_in_use() || member.entry.state != 0
}

/// Every ring of a segment that somebody uses or used, by name, in the order of the segment.
pub fn rings(report: &Report) -> Vec<(String, &RingReport)> {
    match report {
        Report::Session(report) => {
            let rings = report.parts.iter().flat_map(|parts| &parts.rings);
            SESSION_RINGS.map(str::to_owned).into_iter().zip(rings).collect()
        }
        Report::Hub(report) => {
            let members = report.parts.iter().flat_map(|parts| &parts.members);
            let members = members.filter(|member| is_there(member));
            members
                .flat_map(|member| hub_rings(member.id.0).into_iter().zip([&member.to_host, &member.to_peer]))
                .collect()
        }
    }
}

/// Messages through a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    sent: u64,
    received: u64,
}

/// The counts of every ring at some time.
#[derive(Clone, Debug)]
pub struct Sample {
    at: Instant,
    rings: BTreeMap<String, Counts>,
}

/// Messages per second through a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Into it.
    pub sent: f64,
    /// Out of it.
    pub received: f64,
}

impl Sample {
    pub fn of(report: &Report, at: Instant) -> Self {
        let counts = |ring: &RingReport| Counts { sent: ring.status.visible_head, received: ring.status.tail };
        Self { at, rings: rings(report).into_iter().map(|(name, ring)| (name, counts(ring))).collect() }
    }

    /// The rate since an earlier sample; `None` for a ring that is new or has been emptied since, for another peer.
    pub fn rate_since(&self, earlier: &Self, ring: &str) -> Option<Rate> {
        let (before, now) = (earlier.rings.get(ring)?, self.rings.get(ring)?);
        let seconds = self.at.checked_duration_since(earlier.at).map(|time| time.as_secs_f64());
        let seconds = seconds.filter(|seconds| *seconds > 0.0)?;
        let rate = |now: u64, before: u64| Some(now.checked_sub(before)? as f64 / seconds);
        Some(Rate { sent: rate(now.sent, before.sent)?, received: rate(now.received, before.received)? })
    }
}

/// Seen to fail when: a count that went back is taken for one that stood still.
#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sample(at: Instant, rings: &[(&str, u64, u64)]) -> Sample {
        let counts = |(name, sent, received): &(&str, u64, u64)| {
            ((*name).to_owned(), Counts { sent: *sent, received: *received })
        };
        Sample { at, rings: rings.iter().map(counts).collect() }
    }

    #[test]
    fn a_rate_is_what_was_added_by_the_time_that_it_took() {
        let start = Instant::now();
        let earlier = sample(start, &[("A→B", 10, 5)]);
        let later = sample(start + Duration::from_millis(500), &[("A→B", 1010, 505)]);
        assert_eq!(later.rate_since(&earlier, "A→B"), Some(Rate { sent: 2000.0, received: 1000.0 }));
    }

    #[test]
    fn what_cannot_be_a_rate_is_none() {
        let start = Instant::now();
        let earlier = sample(start, &[("A→B", 10, 5), ("B→A", 10, 5)]);
        let later = sample(start + Duration::from_secs(1), &[("A→B", 3, 3), ("1→host", 7, 7)]);
        // Emptied for another peer; new; gone; and no time has passed.
        for ring in ["A→B", "1→host", "B→A"] {
            assert_eq!(later.rate_since(&earlier, ring), None, "{ring}");
        }
        assert_eq!(earlier.rate_since(&earlier, "A→B"), None);
    }
}
