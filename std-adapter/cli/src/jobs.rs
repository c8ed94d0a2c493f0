//! What the first process asks of the second, one descriptor per request, and how the second does it.
//!
//! The kind of request is the descriptor's `method_id`, its payload is what is moved. Whoever wrote a payload marked it
//! with the message's number, so that the reader can tell that it is the right one.

use rapace_shm::{MsgDescHot, ShmSession};

use crate::child::First;
use crate::error::Error;

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Job {
    /// Another piece of the file. No answer.
    File = 1,
    /// The file is complete: answer with its checksum, as a number.
    FileEnd,
    /// Send as many bytes back.
    Echo,
    /// One of many, to be read whole. No answer.
    Take,
    /// Answer how many [`Take`](Self::Take) there were since the last answer, as a number.
    TakeEnd,
    /// Answer how many system calls the second process has made, as a number.
    SystemCalls,
}

impl Job {
    const ALL: [Self; 6] = [Self::File, Self::FileEnd, Self::Echo, Self::Take, Self::TakeEnd, Self::SystemCalls];

    /// The descriptor of the request.
    pub const fn descriptor(self, number: u64) -> MsgDescHot {
        MsgDescHot { method_id: self as u32, ..MsgDescHot::data(number) }
    }

    fn of(descriptor: &MsgDescHot) -> Result<Self, Error> {
        let id = descriptor.method_id;
        Self::ALL.into_iter().find(|job| *job as u32 == id).ok_or(Error::UnknownJob(id))
    }
}

/// What arrived of a file.
#[derive(Clone, Debug, Default)]
pub struct Receipt {
    hasher: crc32fast::Hasher,
    bytes: u64,
}

impl Receipt {
    /// Adds a piece.
    pub fn add(&mut self, piece: &[u8]) {
        self.hasher.update(piece);
        self.bytes += piece.len() as u64;
    }

    /// Bytes so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The CRC-32 of the bytes so far.
    pub fn checksum(&self) -> u32 {
        self.hasher.clone().finalize()
    }
}

/// Writes `number` at both ends of a payload.
pub fn mark(payload: &mut [u8], number: u64) {
    let bytes = number.to_le_bytes();
    for (place, byte) in payload.iter_mut().zip(bytes) {
        *place = byte;
    }
    if let Some(last) = payload.last_mut() {
        *last = bytes[0];
    }
}

/// Fills a payload with what [`is_filled`] looks for.
pub fn fill(payload: &mut [u8], number: u64) {
    payload.fill(number.to_le_bytes()[0]);
}

/// Whether a payload is what [`fill`] wrote: reads every byte.
pub fn is_filled(payload: &[u8], number: u64) -> bool {
    let wanted = number.to_le_bytes()[0];
    payload.iter().fold(0, |different, byte| different | (byte ^ wanted)) == 0
}

/// Whether a message is the one that was due, marked at both ends.
pub fn expect_marked(message: &rapace_shm::Message, number: u64) -> Result<(), Error> {
    let payload = message.payload();
    let bytes = number.to_le_bytes();
    let starts_right = payload.iter().zip(bytes).take(payload.len().saturating_sub(1)).all(|(seen, due)| *seen == due);
    let right = starts_right && payload.last().is_none_or(|last| *last == bytes[0]);
    expect(right, message, number)
}

fn expect(right: bool, message: &rapace_shm::Message, number: u64) -> Result<(), Error> {
    let seen = message.descriptor().msg_id;
    if right && seen == number {
        return Ok(());
    }
    Err(Error::Disorder { expected: number, seen, bytes: message.len() })
}

/// Runs the second process: does what it is asked until the first closes.
pub fn serve(first: &First) -> Result<(), Error> {
    first.die_with()?;
    let (mut tx, mut rx) = ShmSession::inherited()?.into_split();
    let mut file = Receipt::default();
    let mut taken = 0;
    for message in rx.iter() {
        let message = message?;
        let number = message.descriptor().msg_id;
        match Job::of(message.descriptor())? {
            Job::File => file.add(message.payload()),
            Job::FileEnd => {
                let checksum = u64::from(std::mem::take(&mut file).checksum());
                tx.send(&Job::FileEnd.descriptor(number), &checksum.to_le_bytes())?;
            }
            Job::Echo => {
                expect_marked(&message, number)?;
                echo(&mut tx, message.len(), number)?;
            }
            Job::Take => {
                expect(is_filled(message.payload(), taken), &message, taken)?;
                taken += 1;
            }
            Job::TakeEnd => tx.send(&Job::TakeEnd.descriptor(number), &std::mem::take(&mut taken).to_le_bytes())?,
            Job::SystemCalls => {
                let calls = tx.system_calls().total();
                tx.send(&Job::SystemCalls.descriptor(number), &calls.to_le_bytes())?;
            }
        }
    }
    Ok(())
}

fn echo(tx: &mut rapace_shm::Sender, len: usize, number: u64) -> Result<(), Error> {
    let descriptor = Job::Echo.descriptor(number);
    if len <= rapace_shm::INLINE_PAYLOAD_SIZE {
        let mut payload = [0; rapace_shm::INLINE_PAYLOAD_SIZE];
        mark(&mut payload[..len], number);
        return Ok(tx.send(&descriptor, &payload[..len])?);
    }
    let mut loan = tx.loan(len)?;
    mark(&mut loan, number);
    Ok(tx.send_loan(&descriptor, loan)?)
}
