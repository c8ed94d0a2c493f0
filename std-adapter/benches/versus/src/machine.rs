//! When and where.

use std::fs::read_to_string;
use std::time::{SystemTime, UNIX_EPOCH};

/// One line: the date (UTC, system clock), the processor, the kernel.
pub fn describe() -> String {
    let cpuinfo = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim()))
        .unwrap_or(std::env::consts::ARCH);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    format!("{}, {model}, {cores} processors in use, Linux {}", date(seconds / 86_400), kernel.trim())
}

/// The date, so many days after 1 January 1970.
fn date(days: u64) -> String {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut rest) = (1970, days);
    while rest >= 365 + u64::from(leap(year)) {
        rest -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", rest + 1)
}

/// Dates whose days were counted by other means: `date --date=... +%s` divided by 86 400.
pub fn check() {
    for (days, wanted) in [
        (0, "1970-01-01"),
        (19_781, "2024-02-28"),
        (19_782, "2024-02-29"),
        (19_783, "2024-03-01"),
        (20_088, "2024-12-31"),
        (20_089, "2025-01-01"),
    ] {
        assert_eq!(date(days), wanted);
    }
}
