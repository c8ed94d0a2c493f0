//! A plugin's process: answers every request with as many bytes, every one of which it has read and written.

use rapace_shm::{HubPeer, HubSender, INLINE_PAYLOAD_SIZE, MsgDescHot};

use crate::child::First;
use crate::error::Error;
use crate::jobs::{fill, is_filled};

/// How many bytes a request has, and its answer: inline, and in slots of two sizes.
pub const LENGTHS: [usize; 4] = [INLINE_PAYLOAD_SIZE, 64, 1024, 4096];

/// The length of a request with this number.
pub fn length(number: u64) -> usize {
    let [inline, ..] = LENGTHS;
    let place = usize::try_from(number % LENGTHS.len() as u64);
    place.ok().and_then(|place| LENGTHS.get(place)).copied().unwrap_or(inline)
}

/// What the bytes of the answer to a request are made of.
pub const fn answer(number: u64) -> u64 {
    !number
}

/// Answers until the host closes. A request that is not what it should be ends the process.
pub fn serve(first: &First) -> Result<(), Error> {
    first.die_with()?;
    let (mut tx, mut rx) = HubPeer::inherited()?.into_split();
    for message in rx.iter() {
        let message = message?;
        let (number, bytes) = (message.descriptor().msg_id, message.len());
        if bytes != length(number) || !is_filled(message.payload(), number) {
            return Err(Error::Disorder { expected: number, seen: number, bytes });
        }
        // Before there is an answer: so nobody waits for a slot while it has one.
        drop(message);
        send_filled(&mut tx, number)?;
    }
    Ok(())
}

fn send_filled(tx: &mut HubSender, number: u64) -> Result<(), Error> {
    let (descriptor, len) = (MsgDescHot::data(number), length(number));
    if len <= INLINE_PAYLOAD_SIZE {
        let mut payload = [0; INLINE_PAYLOAD_SIZE];
        fill(&mut payload[..len], answer(number));
        return Ok(tx.send(&descriptor, &payload[..len])?);
    }
    let mut loan = tx.loan(len)?;
    fill(&mut loan, answer(number));
    tx.send_loan(&descriptor, loan).map_err(|unsent| Error::Session(unsent.error))
}
