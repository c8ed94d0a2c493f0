//! One end of a link of a hub that does what a program does, whatever stands in the shared memory.

use std::ops::Range;

use rapace_shm_core::endpoint::Endpoint;
use rapace_shm_core::hub::{HubAllocator, HubLink};
use rapace_shm_core::layout::MsgDescHot;
use rapace_shm_core::link::{Message, RecvError, SendError};
use rapace_shm_core::region::ByteRegion;

use super::hub::{HubLoan, HubPayload};
use super::rubbish::Choices;

/// The longest slot of [`SMALL_HUB`](super::hub::SMALL_HUB), in bytes.
const LARGEST: usize = 1024;

/// One end of a link, with what it holds.
pub struct Member<E: Endpoint> {
    pub link: HubLink<E>,
    pub loans: Vec<HubLoan<E>>,
    pub payloads: Vec<HubPayload<E>>,
    pub faulted: bool,
}

impl<E: Endpoint> Member<E>
where
    E::Region: ByteRegion,
{
    pub fn new(link: HubLink<E>) -> Self {
        Self { link, loans: Vec::new(), payloads: Vec::new(), faulted: false }
    }

    /// One call, of whatever the choices say. Whatever comes back is an answer that the documentation names.
    pub fn call(&mut self, choices: &mut impl Choices) {
        let descriptor = MsgDescHot::data(choices.any().into());
        let bytes = [7; 300];
        let bytes = &bytes[..choices.below(300)];
        let (tx, rx) = self.link.split();
        let sent = match choices.below(12) {
            0..3 => tx.try_send(&descriptor, bytes),
            3 => {
                let step = tx.poll_send(&descriptor, bytes).map(drop);
                tx.disarm();
                step
            }
            4 | 5 => tx.try_loan(bytes.len()).map(|mut loan| {
                assert!(loan.len() == bytes.len());
                loan.fill(7);
                self.loans.push(loan);
            }),
            6 => match self.loans.pop().map(|loan| tx.try_send_loan(&descriptor, loan)) {
                Some(Err(unsent)) => Err(unsent.error),
                _ => Ok(()),
            },
            7..10 => return self.receive(choices.below(2) == 0),
            10 => return drop(self.payloads.pop()),
            _ => {
                let armed = rx.poll_ready().map(drop);
                rx.disarm();
                return self.ended(armed.err());
            }
        };
        self.sent(sent);
    }

    fn sent(&mut self, result: Result<(), SendError>) {
        match result {
            Err(SendError::PeerFault(fault)) => {
                assert!(!fault.to_string().is_empty());
                self.faulted = true;
            }
            Ok(()) | Err(SendError::Full | SendError::NoSlot) => {}
            Err(error) => assert!(!matches!(error, SendError::ForeignLoan)),
        }
    }

    fn receive(&mut self, keep: bool) {
        match self.link.split().1.try_recv() {
            Ok(None) => {}
            Ok(Some(message)) => self.got(message, keep),
            Err(error) => self.ended(Some(error)),
        }
    }

    pub fn got(&mut self, message: Message<E, HubAllocator>, keep: bool) {
        assert!(!self.faulted, "received after a fault");
        assert!(message.len() <= LARGEST && message.payload().len() == message.len());
        std::hint::black_box(message.payload().iter().fold(0, |sum, byte| sum ^ byte));
        if keep && !message.descriptor().is_inline() {
            self.payloads.push(message.into_payload());
        }
    }

    pub fn ended(&mut self, error: Option<RecvError>) {
        if let Some(RecvError::PeerFault(fault)) = error {
            assert!(!fault.to_string().is_empty());
            self.faulted = true;
        }
    }

    pub fn ranges(&self) -> impl Iterator<Item = Range<*const u8>> {
        let loans = self.loans.iter().map(|loan| loan.as_ptr_range());
        loans.chain(self.payloads.iter().map(|payload| payload.as_ptr_range()))
    }
}

/// No two guards of one member share a byte, whatever the free lists say.
pub fn check_disjoint(ranges: impl Iterator<Item = Range<*const u8>>) {
    let mut ranges: Vec<_> = ranges.filter(|range| !range.is_empty()).collect();
    ranges.sort_by_key(|range| range.start);
    assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "two guards overlap");
}
