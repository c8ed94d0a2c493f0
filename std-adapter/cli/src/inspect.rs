//! `inspect`: opens what it is told for reading and prints what stands there.

use std::io::{self, Write};

use rapace_shm::inspect::Report;

use crate::error::Error;
use crate::target::Which;

/// Said by `--help`.
pub const EXIT_CODES: &str = "Exit code: 0 nothing looks wrong, 1 something does, 2 there was nothing to look at.";

/// What `inspect` is told.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    which: Which,
}

/// Prints the report.
pub fn run(options: &Options) -> Result<(), Error> {
    let segment = options.which.open()?;
    let report = segment.look(Report::read)?;
    writeln!(io::stdout().lock(), "{report}")?;
    match report.findings().len() as u64 + report.omitted() {
        0 => Ok(()),
        count => Err(Error::Findings(count)),
    }
}
