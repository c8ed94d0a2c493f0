//! Numbers, to be read by people at a glance: three digits or so.

use std::fmt;
use std::time::Duration;

/// A number per second; "-" if it is not known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PerSecond(pub Option<f64>);

impl fmt::Display for PerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            None => "-".to_owned(),
            Some(rate) if rate >= 1e6 => format!("{:.2} M", rate / 1e6),
            Some(rate) if rate >= 1e3 => format!("{:.1} k", rate / 1e3),
            Some(rate) if rate >= 100.0 => format!("{rate:.0}"),
            Some(0.0) => "0".to_owned(),
            Some(rate) => format!("{rate:.1}"),
        };
        f.pad(&text)
    }
}

/// A size in bytes, a power of two as a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let exact = units.into_iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        f.pad(&exact.map_or_else(|| format!("{} B", self.0), |(unit, name)| format!("{} {name}", self.0 / unit)))
    }
}

/// How long ago something was.
pub fn ago(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => format!("{:.1} s ago", duration.as_secs_f64()),
        seconds @ 60..7200 => format!("{} min ago", seconds / 60),
        seconds => format!("{} h ago", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_about_three_digits() {
        let said = |rate| PerSecond(rate).to_string();
        let rates = [None, Some(0.0), Some(2.54), Some(123.4), Some(1234.0), Some(12_345_678.0)];
        assert_eq!(rates.map(said), ["-", "0", "2.5", "123", "1.2 k", "12.35 M"]);
        let sizes = [0, 64, 1024, 1536, 16 << 10, 4 << 20, 1 << 31];
        assert_eq!(
            sizes.map(|size| Size(size).to_string()),
            ["0 B", "64 B", "1 KiB", "1536 B", "16 KiB", "4 MiB", "2 GiB"]
        );
        let times = [Duration::from_millis(340), Duration::from_secs(90), Duration::from_secs(7300)];
        assert_eq!(times.map(ago), ["0.3 s ago", "1 min ago", "2 h ago"]);
    }
}
