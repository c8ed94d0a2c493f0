//! How often a segment is looked at until a finding is believed; the module above says why.

use std::fs::File;
use std::time::Duration;

use super::InspectError;
use super::finding::{Finding, FindingKind, Findings};
use super::source::Stop;

/// Pauses between looks: one for a word that was read while it was written, the rest for a slot that a thread has in
/// hand, which may have lost its processor right then.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(2), Duration::from_millis(8), Duration::from_millis(32), Duration::from_millis(128)];

/// How often a file is read anew because its length changed meanwhile, or a list of free slots.
const TRIES: u32 = 8;

/// What was found out, and how.
pub(super) struct Verdict<'a> {
    pub(super) findings: &'a mut Vec<Finding>,
    pub(super) omitted: &'a mut u64,
    pub(super) looks: &'a mut u32,
}

/// A report that takes several looks.
pub(super) trait Look: Sized {
    /// One quick look, and whether no list of free slots changed meanwhile.
    fn quick(file: &File, findings: Findings) -> Result<(Self, bool), Stop>;

    fn verdict(&mut self) -> Verdict<'_>;

    /// Whether somebody may be attached.
    fn may_be_attached(&self) -> bool;

    /// Whether somebody may be attached, and may be in the middle of something.
    fn may_run(&self) -> bool;
}

/// One look: of several quick ones, the first during which no list of free slots changed.
pub(super) fn once<L: Look>(file: &File) -> Result<L, InspectError> {
    let mut last = Err(InspectError::NeverSettles { tries: TRIES });
    for _ in 0..TRIES {
        match L::quick(file, Findings::default()) {
            Ok((report, true)) => return Ok(report),
            Ok((report, false)) => last = Ok(report),
            Err(Stop::Cut) => {}
            Err(Stop::Error(error)) => return Err(error),
        }
    }
    last
}

/// As many looks as it takes to be sure of the findings.
pub(super) fn several<L: Look>(file: &File) -> Result<L, InspectError> {
    let mut report: L = once(file)?;
    for pause in PAUSES {
        if !is_in_doubt(&mut report) {
            break;
        }
        std::thread::sleep(pause);
        let earlier = std::mem::replace(&mut report, once(file)?);
        confirm(&mut report, earlier);
    }
    Ok(report)
}

/// Whether another look may show that a finding was none.
fn is_in_doubt<L: Look>(report: &mut L) -> bool {
    let (may_be_attached, may_run) = (report.may_be_attached(), report.may_run());
    let Verdict { findings, looks, .. } = report.verdict();
    let passes = |finding: &Finding| *looks < 2 || (may_run && finding.kind == FindingKind::Unlisted);
    may_be_attached && findings.iter().any(passes)
}

/// Keeps the findings that an earlier look had too.
pub(super) fn confirm<L: Look>(report: &mut L, mut earlier: L) {
    let (now, earlier) = (report.verdict(), earlier.verdict());
    now.findings.retain(|finding| earlier.findings.iter().any(|before| before.is_about_the_same(finding)));
    *now.omitted = (*now.omitted).min(*earlier.omitted);
    *now.looks += *earlier.looks;
}
