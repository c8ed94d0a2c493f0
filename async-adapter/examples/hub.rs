//! A host and three plugins, each a process: the plugins sort numbers, the host asks all of them at once and hears whoever is
//! done first. One sleep for all plugins, whatever the executor.
//!
//! `cargo run -p rapace-shm-async --example hub`

use std::process::Command;

use futures::future::try_join_all;
use rapace_shm::{Heard, HubConfig, HubHost, MsgDescHot, Waits};
use rapace_shm_async::{HubHostTransport, HubPeerTransport, HubTransportError};

const PLUGINS: u64 = 3;

/// So many numbers that they need a slot; each plugin's are others.
fn numbers(plugin: u64) -> Vec<u8> {
    (0..100_000_u64).map(|number| (number * (plugin + 7)).to_le_bytes()[0]).collect()
}

/// A plugin: sorts what it is sent where it stands, until the host closes.
pub async fn plugin() -> Result<(), rapace_shm::Error> {
    let host = HubPeerTransport::inherited()?;
    loop {
        let message = match host.recv().await {
            Err(rapace_shm::Error::Closed) => return Ok(()),
            message => message?,
        };
        let mut answer = host.loan(message.payload().len()).await?;
        answer.append(message.payload());
        answer.sort_unstable();
        host.send_loan(message.descriptor(), answer).await?;
    }
}

/// The host; each `command` starts a process that is a [`plugin`].
pub async fn host(command: impl Fn() -> Command) -> Result<(), HubTransportError> {
    let host = HubHostTransport::new(HubHost::create(HubConfig::default())?)?;
    let mut children = Vec::new();
    for _ in 0..PLUGINS {
        children.push(host.spawn(&mut command(), Waits::Together)?);
    }
    let ask = children
        .iter()
        .zip(0..)
        .map(async |((id, _), plugin)| host.send_to_peer(*id, &MsgDescHot::data(plugin), &numbers(plugin)).await);
    try_join_all(ask).await?;

    let mut answers = 0;
    while answers < PLUGINS {
        match host.recv_from_any().await? {
            (id, Heard::Message(message)) => {
                assert!(message.payload().is_sorted(), "read where the plugin wrote it");
                println!("plugin {} sorted {} bytes", id.0, message.payload().len());
                answers += 1;
            }
            (id, Heard::Joined) => println!("plugin {} is there", id.0),
            (id, heard) => println!("plugin {}: {heard:?}", id.0),
        }
    }
    for (id, mut child) in children {
        host.dismiss(id)?; // it sees the end
        println!("plugin {} has left: {}", id.0, child.wait().map_err(io_error)?);
    }
    Ok(())
}

fn io_error(source: std::io::Error) -> HubTransportError {
    HubTransportError::Host(rapace_shm::Error::Io { what: "cannot wait for a plugin", source })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::args().nth(1).is_some() {
        return Ok(smol::block_on(plugin())?);
    }
    let this = std::env::current_exe()?;
    let command = || {
        let mut command = Command::new(&this);
        command.arg("plugin");
        command
    };
    Ok(smol::block_on(host(command))?)
}
