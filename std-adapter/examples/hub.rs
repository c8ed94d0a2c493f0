//! A host and three plugins, each a process, one of which crashes at its second task: the host hears of it and gives the task
//! to another one. One sleep for all plugins.
//!
//! `cargo run -p rapace-shm --example hub`

use std::collections::HashMap;
use std::error::Error;
use std::process::Command;

use rapace_shm::{Heard, HubConfig, HubHost, HubPeer, MsgDescHot, Waits};

const PLUGINS: u64 = 3;
const TASKS: u64 = 12;

/// Says to a process that it is a plugin, and which one.
const PLUGIN: &str = "RAPACE_SHM_EXAMPLE_PLUGIN";

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::var(PLUGIN) {
        Ok(number) => plugin(number == "1"),
        Err(_) => host(),
    }
}

/// Adds up the numbers that it is sent, until the host closes.
fn plugin(is_clumsy: bool) -> Result<(), Box<dyn Error>> {
    let mut plugin = HubPeer::inherited()?;
    let (tx, rx) = plugin.split();
    for (done, task) in rx.iter().enumerate() {
        let task = task?;
        if is_clumsy && done == 1 {
            std::process::exit(1); // with a task in hand
        }
        let sum: u64 = task.payload().iter().copied().map(u64::from).sum();
        tx.send(task.descriptor(), &sum.to_le_bytes())?;
    }
    Ok(())
}

/// One of each, as long as there are both.
fn pairs<A, B>(some: &mut Vec<A>, others: &mut Vec<B>) -> Vec<(A, B)> {
    let count = some.len().min(others.len());
    some.drain(..count).zip(others.drain(..count)).collect()
}

fn host() -> Result<(), Box<dyn Error>> {
    let mut host = HubHost::create(HubConfig::default())?;
    let mut children = Vec::new();
    for number in 0..PLUGINS {
        let mut command = Command::new(std::env::current_exe()?);
        children.push(host.spawn(command.env(PLUGIN, number.to_string()), Waits::Together)?.1);
    }
    let mut open: Vec<u64> = (0..TASKS).collect();
    let (mut idle, mut in_hand) = (Vec::new(), HashMap::new());
    let mut done = 0;
    while done < TASKS {
        let (id, heard) = host.recv_any()?;
        match heard {
            Heard::Joined => {
                println!("plugin {} is there", id.0);
                idle.push(id);
            }
            Heard::Message(sum) => {
                println!("plugin {}: task {} is {:?}", id.0, sum.descriptor().msg_id, sum.payload());
                in_hand.remove(&id);
                idle.push(id);
                done += 1;
            }
            Heard::Ended(end) => {
                println!("plugin {} is gone ({end:?}); what it had is the hub's again", id.0);
                open.extend(in_hand.remove(&id));
            }
            heard => println!("plugin {}: {heard:?}", id.0),
        }
        for (id, task) in pairs(&mut idle, &mut open) {
            // Written where the plugin will read it.
            let mut loan = host.loan_for(id, 1000)?;
            loan.fill(task.to_le_bytes()[0]);
            host.send_loan_to(id, &MsgDescHot::data(task), loan)?;
            in_hand.insert(id, task);
        }
    }
    drop(host); // the plugins see the end
    for mut child in children {
        child.wait()?;
    }
    Ok(())
}
