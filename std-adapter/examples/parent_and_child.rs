//! A parent sends lines of text to a child process and prints what comes back, in upper case.
//!
//! `cargo run --example parent_and_child`

use std::error::Error;
use std::io::Write;
use std::process::Command;

use rapace_shm::{MsgDescHot, ShmSession, ShmSessionConfig};

fn main() -> Result<(), Box<dyn Error>> {
    match ShmSession::inherited() {
        Ok(session) => child(session),
        Err(rapace_shm::Error::NotInherited { .. }) => parent(),
        Err(error) => Err(error.into()),
    }
}

fn parent() -> Result<(), Box<dyn Error>> {
    let session = ShmSession::create(ShmSessionConfig::default())?;
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = session.spawn(&mut command)?;
    let (mut tx, mut rx) = session.into_split();
    for (number, line) in (1..).zip(["short", "long enough to travel in a slot of its own"]) {
        // Up to 16 bytes ride inside the descriptor, more are copied into a slot.
        tx.send(&MsgDescHot::data(number), line.as_bytes())?;
        let answer = rx.recv()?;
        println!("{}: {}", answer.descriptor().msg_id, String::from_utf8_lossy(answer.payload()));
    }
    tx.close();
    child.wait()?;
    Ok(())
}

fn child(session: ShmSession) -> Result<(), Box<dyn Error>> {
    let (mut tx, mut rx) = session.into_split();
    for message in rx.iter() {
        let message = message?;
        // Written in place: no copy on this side either.
        let mut loan = tx.loan(message.len())?;
        loan.write_all(&message.payload().to_ascii_uppercase())?;
        tx.send_loan(message.descriptor(), loan)?;
    }
    Ok(())
}
