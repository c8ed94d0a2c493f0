//! One side of a session that does what a program does, and asserts after every call what the documentation promises,
//! whatever stands in the shared memory.

use rapace_shm_core::PeerFault;
use rapace_shm_core::endpoint::Endpoint;
use rapace_shm_core::layout::{INLINE_PAYLOAD_SIZE, MsgDescHot, SegmentOffsets, Span};
use rapace_shm_core::link::{Frozen, Link, LinkError, Loan, Message, Payload, RecvError, SendError};
use rapace_shm_core::region::ByteRegion;
use rapace_shm_core::slots::Slot;
use rapace_shm_core::wake::Step;

use super::rubbish::Choices;

/// The longest payload that is tried, in bytes.
const LONGEST: usize = 100;

/// One side, with what it holds.
pub struct Side<E: Endpoint> {
    pub link: Link<E>,
    loans: Vec<Loan<E>>,
    payloads: Vec<Payload<E>>,
    /// What it has sent, or will send, and reads on.
    kept: Vec<Frozen<E>>,
    /// Since the last reset a fault was reported.
    faulted: bool,
    /// Since the last reset an end was closed, by a fault or by the peer's.
    pub ended: bool,
    /// Nobody has written anything that the protocol forbids: there is no fault, and what arrives is what was sent.
    pub honest: bool,
    sent: u64,
    received: u64,
    /// The address of the first slot.
    slots: usize,
}

impl<E: Endpoint> Side<E>
where
    E::Region: ByteRegion,
{
    pub fn new(link: Link<E>) -> Self {
        let config = link.session().config();
        let span = Span { offset: SegmentOffsets::calculate(&config).unwrap().slot_data, len: 0 };
        let slots = link.endpoint().region().bytes(span).expect("the slots are in the region").addr().get();
        let (loans, payloads, kept) = (Vec::new(), Vec::new(), Vec::new());
        Self { link, loans, payloads, kept, faulted: false, ended: false, honest: false, sent: 0, received: 0, slots }
    }

    /// One call. Whatever comes back is an answer that the documentation names.
    pub fn call(&mut self, choices: &mut impl Choices) {
        match choices.below(21) {
            0..3 => self.send(choices),
            3 => self.poll_send(choices),
            4 | 5 => self.lend(choices),
            6 | 7 => self.send_loan(),
            8 => self.feed(choices),
            9..13 => self.receive(choices),
            13 => self.poll_receive(choices),
            14 => drop(self.payloads.pop()),
            15 => drop(self.loans.pop()),
            16 => self.poll_loan(choices),
            17 | 18 => self.send_frozen(choices),
            19 => drop(self.kept.pop()),
            _ => self.check_census(),
        }
    }

    /// Closes one half.
    pub fn close(&mut self, choices: &mut impl Choices) {
        self.ended = true;
        match choices.below(2) {
            0 => self.link.split().0.close(),
            _ => self.link.split().1.close(),
        }
    }

    /// As after the peer's death; also what makes a side that has ended good again.
    pub fn reset(&mut self) {
        match self.link.reset() {
            Ok(_) => (self.faulted, self.ended) = (false, false),
            Err(LinkError::PeerFault(fault)) => self.saw(fault),
            Err(error) => panic!("nothing is under way: {error}"),
        }
    }

    /// The slots that it holds and shares with nobody.
    pub fn held(&self) -> impl Iterator<Item = u32> {
        let loans = self.loans.iter().map(|loan| loan.slot().reference);
        loans.chain(self.payloads.iter().filter_map(|payload| Some(payload.slot()?.reference)))
    }

    fn max(&self) -> usize {
        self.link.session().config().slot_size as usize
    }

    /// The next message's descriptor: its number, and what its payload is full of.
    fn descriptor(&self, byte: u8) -> MsgDescHot {
        MsgDescHot { channel_id: byte.into(), ..MsgDescHot::data(self.sent) }
    }

    /// The next message, as long as is chosen.
    fn message(&self, choices: &mut impl Choices) -> (MsgDescHot, Vec<u8>) {
        let [byte, ..] = self.sent.to_le_bytes();
        (self.descriptor(byte), vec![byte; choices.below(LONGEST)])
    }

    fn send(&mut self, choices: &mut impl Choices) {
        let (descriptor, bytes) = self.message(choices);
        let sent = self.link.split().0.try_send(&descriptor, &bytes);
        assert!(bytes.len() <= self.max().max(INLINE_PAYLOAD_SIZE) || sent.is_err());
        self.sent(sent);
    }

    fn poll_send(&mut self, choices: &mut impl Choices) {
        let (descriptor, bytes) = self.message(choices);
        let step = self.link.split().0.poll_send(&descriptor, &bytes);
        self.link.split().0.disarm();
        self.stepped(step);
    }

    fn feed(&mut self, choices: &mut impl Choices) {
        let (descriptor, bytes) = self.message(choices);
        let fed = self.link.split().0.feed(&descriptor, &bytes);
        self.sent(fed);
        self.link.split().0.flush();
    }

    fn lend(&mut self, choices: &mut impl Choices) {
        let len = choices.below(LONGEST);
        match self.link.split().0.try_loan(len) {
            Ok(loan) => self.keep_loan(loan, len),
            Err(error) => self.not_sent(error),
        }
    }

    fn poll_loan(&mut self, choices: &mut impl Choices) {
        let len = choices.below(LONGEST);
        match self.link.split().0.poll_loan(len) {
            Ok(Step::Ready(loan)) => self.keep_loan(loan, len),
            Ok(Step::Sleep(_)) => assert!(!self.faulted, "open after a fault"),
            Err(error) => self.not_sent(error),
        }
        self.link.split().0.disarm();
    }

    fn keep_loan(&mut self, mut loan: Loan<E>, len: usize) {
        assert!(!self.faulted, "lent after a fault");
        assert_eq!(loan.len(), len);
        self.assert_own(loan.slot(), &loan);
        loan.fill(7);
        self.loans.push(loan);
    }

    fn send_loan(&mut self) {
        let Some(mut loan) = self.loans.pop() else { return };
        let [byte, ..] = self.sent.to_le_bytes();
        loan.fill(byte);
        let descriptor = self.descriptor(byte);
        match self.link.split().0.try_send_loan(&descriptor, loan) {
            Ok(()) => self.sent(Ok(())),
            Err(unsent) => {
                self.loans.push(unsent.loan);
                self.not_sent(unsent.error);
            }
        }
    }

    /// Freezes a loan if there is one, and sends some of what is frozen.
    fn send_frozen(&mut self, choices: &mut impl Choices) {
        self.kept.extend(self.loans.pop().map(Loan::freeze));
        if self.kept.is_empty() {
            return;
        }
        let kept = &self.kept[choices.below(self.kept.len())];
        let byte = kept.first().copied().unwrap_or_default();
        assert!(!self.honest || kept.iter().all(|seen| *seen == byte), "frozen bytes have changed");
        let from = choices.below(kept.len() + 1);
        let slice = kept.slice(from..from + choices.below(kept.len() - from + 1)).expect("within");
        let descriptor = self.descriptor(byte);
        let sent = self.link.split().0.try_send_frozen(&descriptor, slice);
        self.sent(sent);
    }

    fn receive(&mut self, choices: &mut impl Choices) {
        match self.link.split().1.try_recv() {
            Ok(None) => assert!(!self.faulted, "open after a fault"),
            Ok(Some(message)) => self.keep(message, choices),
            Err(error) => self.not_received(error),
        }
    }

    fn poll_receive(&mut self, choices: &mut impl Choices) {
        match self.link.split().1.poll_recv() {
            Ok(Step::Ready(message)) => self.keep(message, choices),
            Ok(Step::Sleep(_)) => assert!(!self.faulted, "open after a fault"),
            Err(error) => self.not_received(error),
        }
        self.link.split().1.disarm();
    }

    /// Reads a message and keeps its payload, or drops it.
    fn keep(&mut self, message: Message<E>, choices: &mut impl Choices) {
        assert!(!self.faulted, "received after a fault");
        assert!(message.len() <= self.max().max(INLINE_PAYLOAD_SIZE) && message.payload().len() == message.len());
        let mut copy = [0; LONGEST];
        assert_eq!(message.copy_to(&mut copy), message.len().min(LONGEST));
        let MsgDescHot { msg_id, channel_id, payload_slot: reference, payload_generation: generation, .. } =
            *message.descriptor();
        if !message.descriptor().is_inline() {
            self.assert_own(Slot { reference, generation }, message.payload());
        }
        if self.honest {
            assert_eq!(msg_id, self.received, "lost, doubled or out of order");
            assert!(message.payload().iter().all(|seen| u32::from(*seen) == channel_id), "other bytes than were sent");
        }
        self.received += 1;
        if choices.below(2) == 0 {
            self.payloads.push(message.into_payload());
        }
    }

    /// A guard's bytes lie within its slot, and no other guard has that slot: so no two share a byte.
    fn assert_own(&self, slot: Slot, bytes: &[u8]) {
        let kept = self.kept.iter().map(|kept| kept.slot().reference);
        assert!(
            self.held().chain(kept).all(|held| held != slot.reference),
            "slot {} was handed out twice",
            slot.reference
        );
        let first = self.slots + slot.reference as usize * self.max();
        let start = bytes.as_ptr().addr();
        assert!(first <= start && start + bytes.len() <= first + self.max(), "bytes outside slot {}", slot.reference);
    }

    /// A look at the whole session counts every slot once.
    fn check_census(&self) {
        let status = self.link.status();
        let slots = status.slots;
        assert_eq!(slots.free + slots.allocated + slots.in_flight + slots.lent + slots.unknown, slots.total);
        assert!(slots.free_list_len <= slots.total && !status.to_string().is_empty());
        if self.honest {
            assert_eq!((slots.free, slots.unknown), (slots.free_list_len, 0), "{slots}");
        }
    }

    fn stepped(&mut self, step: Result<Step<()>, SendError>) {
        match step {
            Ok(Step::Sleep(_)) => assert!(!self.faulted, "open after a fault"),
            Ok(Step::Ready(())) => self.sent(Ok(())),
            Err(error) => self.not_sent(error),
        }
    }

    fn sent(&mut self, result: Result<(), SendError>) {
        match result {
            // A loan whose slot turns out to be at fault is gone, and the next call says why.
            Ok(()) => {
                assert!(!self.faulted, "sent after a fault");
                self.sent += 1;
            }
            Err(error) => self.not_sent(error),
        }
    }

    fn not_sent(&mut self, error: SendError) {
        match error {
            SendError::PeerFault(fault) => self.saw(fault),
            SendError::ForeignLoan => panic!("it was this session's"),
            SendError::TooLarge { len, max } => assert!(len > max),
            SendError::Full | SendError::NoSlot => assert!(!self.faulted, "open after a fault"),
            _ => self.ended = true,
        }
    }

    fn not_received(&mut self, error: RecvError) {
        self.ended = true;
        if let RecvError::PeerFault(fault) = error {
            self.saw(fault);
        }
    }

    fn saw(&mut self, fault: PeerFault) {
        assert!(!self.honest, "a fault without a cause: {fault}");
        assert!(!fault.to_string().is_empty());
        (self.faulted, self.ended) = (true, true);
    }
}
