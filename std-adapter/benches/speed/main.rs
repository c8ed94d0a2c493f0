//! How fast it is, against a floor or a peer measured in the same run.
//!
//! `cargo bench -p rapace-shm --bench speed` measures; `-- --test` only checks that everything it would time is correct;
//! `-- NAME` runs the group whose name contains NAME: "round trip", "one way", "slot", "asleep", "hub".
//!
//! Absolute times do not hold from one machine to the next, nor from one minute to the next, so every row is a ratio:
//! both sides are measured in turn several times, and the median of the ratios is what counts. A spin ping-pong before
//! and after each sample tells whether the two cores were moved meanwhile; then the sample is thrown away.

#[path = "../../cli/src/estimate.rs"]
mod estimate;
mod floor;
mod hub;
mod measure;
mod one_way;
#[path = "../../cli/src/ping_pong.rs"]
mod ping_pong;
mod round_trip;
mod slots;

use measure::Plan;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if round_trip::is_second_process() {
        return round_trip::second_process();
    }
    if hub::is_plugin() {
        return hub::plugin();
    }
    let test = arguments.iter().any(|argument| argument == "--test");
    let wanted = arguments.iter().find(|argument| !argument.starts_with("--"));
    let plan = if test { Plan::TEST } else { Plan::MEASURE };
    println!("{:<44} {:>12} {:>12} {:>7}   goal", "what", "this", "against", "ratio");
    let is_wanted = |group: &str| wanted.is_none_or(|wanted| group.contains(wanted.as_str()));
    if is_wanted("round trip") {
        round_trip::run(&plan);
    }
    if is_wanted("one way") {
        one_way::run(&plan);
    }
    if is_wanted("slot") {
        slots::run(&plan);
    }
    if is_wanted("asleep") {
        round_trip::asleep(&plan);
    }
    if is_wanted("hub") {
        hub::run(&plan);
    }
    if test {
        println!("everything that would be timed is correct");
    }
}
