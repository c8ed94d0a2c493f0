//! `rapace-shm`: shows at a glance what the transport does on this machine.
//!
//! | module | what lives there |
//! |---|---|
//! | `demo` | the main job: what is sent, in which order, and the table at the end |
//! | `hub` | the same for a hub: a host and plugins, one of which is killed and replaced |
//! | `inspect` | what a segment's bytes say, and which of them look wrong |
//! | `top` | the same segment looked at again and again: rings, slots, peers and rates, in the terminal |
//! | `target` | which segment to look at, and how it is opened |
//! | `jobs` | what the first process asks of the second, and how each is done |
//! | `second` | the second process seen from the first: started, asked, waited for |
//! | `child` | another process of this program: started, never left behind |
//! | `estimate`, `ping_pong` | the estimator and the floor, shared with the library's benchmarks |

#![deny(unsafe_code)]

mod child;
mod demo;
mod error;
mod estimate;
mod hub;
mod inspect;
mod jobs;
mod ping_pong;
mod second;
mod target;
mod top;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Messages between two processes at memory speed.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    demo: demo::Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a second process (or with --hub many), send it a file and millions of messages, and say how fast that was (the
    /// default)
    Demo(demo::Options),
    /// Print what a segment's bytes say, live or dead, and point out what looks wrong; changes nothing
    #[command(after_help = inspect::EXIT_CODES)]
    Inspect(inspect::Options),
    /// Watch a session or a hub at work: rings, slots, peers, rates; changes nothing
    #[command(after_help = top::KEYS)]
    Top(top::Options),
    /// What the second process runs
    #[command(hide = true)]
    Second(child::First),
    /// What the plugins of `demo --hub` run
    #[command(hide = true)]
    Plugin(child::First),
}

fn main() -> ExitCode {
    let arguments = CommandLine::parse();
    let done = match arguments.command {
        None => demo::run(&arguments.demo),
        Some(Command::Demo(demo)) => demo::run(&demo),
        Some(Command::Inspect(inspect)) => inspect::run(&inspect),
        Some(Command::Top(top)) => top::run(&top),
        Some(Command::Second(second)) => jobs::serve(&second),
        Some(Command::Plugin(plugin)) => hub::plugin::serve(&plugin),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rapace-shm: {error}");
            error.exit_code()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn demo_is_what_runs_without_a_word() {
        assert!(CommandLine::try_parse_from(["rapace-shm"]).unwrap().command.is_none());
        assert!(CommandLine::try_parse_from(["rapace-shm", "--quick"]).unwrap().demo.quick);
    }
}
