//! How fast futures are, against floors and the published transport, each measured in the same run.
//!
//! `cargo bench -p rapace-shm-async --all-features` measures; `-- --test` only checks that everything it would time is
//! correct; `-- NAME` runs the group whose name contains NAME: "busy", "asleep", "hub", "rpc", "calls".
//!
//! The rows, the estimator and the floor are those of `rapace-shm`'s benchmark.

#[path = "../../../std-adapter/cli/src/estimate.rs"]
mod estimate;
#[allow(dead_code)] // of its floors, one
#[path = "../../../std-adapter/benches/speed/floor.rs"]
mod floor;
mod hub;
#[allow(dead_code)] // no rates here
#[path = "../../../std-adapter/benches/speed/measure.rs"]
mod measure;
#[path = "../../../std-adapter/cli/src/ping_pong.rs"]
mod ping_pong;
mod round_trip;
#[cfg(feature = "rapace")]
mod rpc;
mod second;

use measure::Plan;

fn main() {
    if second::is_second_process() {
        return second::run();
    }
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let test = arguments.iter().any(|argument| argument == "--test");
    let wanted = arguments.iter().find(|argument| !argument.starts_with("--"));
    let plan = if test { Plan::TEST } else { Plan::MEASURE };
    let is_wanted = |group: &str| wanted.is_none_or(|wanted| group.contains(wanted.as_str()));
    println!("{:<44} {:>12} {:>12} {:>7}   goal", "what", "this", "against", "ratio");
    if is_wanted("busy") {
        round_trip::busy(&plan);
    }
    if is_wanted("asleep") {
        round_trip::asleep(&plan);
    }
    if is_wanted("hub") {
        hub::run(&plan);
    }
    #[cfg(feature = "rapace")]
    if is_wanted("rpc") {
        rpc::run(&plan);
    }
    if is_wanted("calls") {
        round_trip::system_calls(&plan);
    }
    if test {
        println!("everything that would be timed is correct");
    }
}
