//! The same work over this project and over its peers, in one run, as one table. See the folder's README.
//!
//! Absolute times do not hold from one machine to the next, nor from one minute to the next, so what counts are the two
//! ratios in each cell: to this project's figure and to the floor's, both measured in the same round.

#![deny(unsafe_code)]

mod contestants;
#[path = "../../../cli/src/estimate.rs"]
mod estimate;
#[path = "../../speed/floor.rs"]
#[allow(dead_code)] // The other benchmark's floors are more than this one asks for.
mod floor;
mod machine;
#[path = "../../speed/measure.rs"]
#[allow(dead_code)] // So are its ways to print a row.
mod measure;
#[path = "../../../cli/src/ping_pong.rs"]
mod ping_pong;
mod row;
mod second;
mod table;
mod work;

use std::process::ExitCode;
use std::time::Duration;

use measure::{Plan, rounds};
use row::Row;
use second::Job;
use table::{Line, Table};

const USAGE: &str = "\
usage: rapace-shm-versus [--test] [ROW]

  --test   do only as much of everything as shows that it is correct; measures nothing
  ROW      only rows whose name contains this, such as \"one way\"
";

/// Short batches and a limit to each sample: half a dozen contestants share the time for which a machine stays quiet, and
/// the slowest takes a thousand times as long as the fastest.
const MEASURE: Plan = Plan { batch: 64, count: 2000, samples: 5, limit: Duration::from_millis(200) };

/// Two spinning processes on a busy machine take a time slice for every message, so these are few.
const TEST: Plan = Plan { batch: 4, count: 2, ..Plan::TEST };

/// What the command line asks for.
#[derive(Debug, Default)]
struct Options {
    test: bool,
    wanted: Option<String>,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        for argument in arguments {
            if argument == "--test" {
                options.test = true;
            } else if argument.starts_with('-') || options.wanted.is_some() {
                return Err(format!("unknown argument {argument:?}\n\n{USAGE}"));
            } else {
                options.wanted = Some(argument);
            }
        }
        Ok(options)
    }

    fn rows(&self) -> Result<Vec<Row>, String> {
        let is_wanted = |row: &Row| self.wanted.as_ref().is_none_or(|wanted| row.what().contains(wanted.as_str()));
        let rows: Vec<_> = Row::ALL.into_iter().filter(is_wanted).collect();
        if rows.is_empty() {
            let names = Row::ALL.map(Row::what).join("\n  ");
            return Err(format!(
                "no row is called {:?}; there are\n  {names}",
                self.wanted.as_deref().unwrap_or_default()
            ));
        }
        Ok(rows)
    }

    const fn plan(&self) -> Plan {
        if self.test { TEST } else { MEASURE }
    }
}

/// Sweeps at first and when dropped, so that neither earlier runs nor one that fails leaves anything behind.
struct Sweep;

impl Sweep {
    fn new() -> Self {
        Self::sweep();
        Self
    }

    fn sweep() {
        if let Err(error) = contestants::sweep() {
            eprintln!("{error}");
        }
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        Self::sweep();
    }
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => return fail(&error),
    };
    let done = match Job::of_this_process() {
        Ok(Some(job)) => second_process(&job),
        Ok(None) => first_process(&options),
        Err(error) => Err(error),
    };
    done.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

fn fail(error: &str) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}

fn second_process(job: &Job) -> Result<(), String> {
    job.end_with_the_first()?;
    let entry = contestants::ALL.get(job.contestant()).ok_or("no such contestant")?;
    (entry.second)(job);
    Ok(())
}

fn first_process(options: &Options) -> Result<(), String> {
    let rows = options.rows()?;
    let sweep = Sweep::new();
    machine::check();
    let plan = options.plan();
    let mut lines = Vec::new();
    for row in rows {
        eprintln!("{}", row.what());
        lines.push(measure(row, &plan));
    }
    drop(sweep);
    if options.test {
        println!("everything that would be timed is correct");
    } else {
        println!("{}\n\n{}", machine::describe(), Table(lines));
    }
    Ok(())
}

/// All contestants of a row in turn, then the floor.
fn measure(row: Row, plan: &Plan) -> Line {
    let mut samples: Vec<Box<dyn FnMut() -> f64>> = Vec::new();
    for (contestant, entry) in contestants::ALL.iter().enumerate() {
        if !matches!((entry.part)(row), contestants::Part::Cannot(_)) {
            samples.push(Box::new(move || (entry.sample)(contestant, row, plan)));
        }
    }
    samples.push(Box::new(move || row.floor(plan)));
    let mut samples: Vec<&mut dyn FnMut() -> f64> = samples.iter_mut().map(|sample| &mut **sample as _).collect();
    Line::new(row, rounds(plan, &mut samples))
}
