//! Two contexts of one program, as a main loop and an interrupt handler are: each runs until it has nothing to do, then
//! sleeps until the other one wakes it.

use core::sync::atomic::{AtomicU32, Ordering};

use rapace_shm_core::endpoint::{Endpoint, Half, PeerId, SleepKind};
use rapace_shm_core::layout::{At, MsgDescHot};
use rapace_shm_core::ledger::{HasLedger, Ledger, LedgerRef};
use rapace_shm_core::link::{Loan, Receiver, RecvError, SendError, Sender};
use rapace_shm_core::region::{InRegion, RawRegion};
use rapace_shm_core::wake::Step;

use crate::{Failed, SLOTS, ensure};

/// Bit n: context n has something to do.
static RUNNABLE: AtomicU32 = AtomicU32::new(0b11);

/// What a context brings along: the region, its own ledger, and how it is woken.
#[derive(Clone, Copy)]
pub struct Context {
    pub id: PeerId,
    pub region: RawRegion,
    pub ledger: &'static Ledger<SLOTS>,
}

impl InRegion for Context {
    type Region = RawRegion;

    fn region(&self) -> &RawRegion {
        &self.region
    }
}

impl HasLedger for Context {
    fn ledger(&self) -> LedgerRef<'_> {
        self.ledger.ledger()
    }
}

impl Endpoint for Context {
    /// The main loop sleeps on a word, as a core does that waits for an event; the handler has an interrupt line.
    fn sleep_kind(&self) -> SleepKind {
        if self.id == PeerId(0) { SleepKind::Word } else { SleepKind::Doorbell }
    }

    fn wake(&self, _word: At<u32>) {
        // An event, as by `sev`: it does not say for whom.
        RUNNABLE.store(0b11, Ordering::Release);
    }

    fn ring(&self, peer: PeerId, _half: Half) {
        RUNNABLE.fetch_or(1 << u32::from(peer.0 & 1), Ordering::Release);
    }
}

/// Takes what is to be done, or fails: when both contexts sleep, a wake-up was lost.
fn runnable() -> Result<u32, Failed> {
    let bits = RUNNABLE.swap(0, Ordering::Acquire);
    ensure(bits != 0)?;
    Ok(bits)
}

const MESSAGES: u64 = 10_000;
const LONGEST: u64 = 256;

/// Sends every length there is, again and again, in every way there is, and counts the answers.
pub struct MainLoop {
    pub tx: Sender<Context>,
    pub rx: Receiver<Context>,
    next: u64,
    waiting: Option<Loan<Context>>,
    answers: u64,
    ended: bool,
}

impl MainLoop {
    pub fn new(tx: Sender<Context>, rx: Receiver<Context>) -> Self {
        Self { tx, rx, next: 0, waiting: None, answers: 0, ended: false }
    }

    fn run(&mut self) -> Result<(), Failed> {
        while self.next < MESSAGES {
            match self.send()? {
                Step::Ready(()) => self.next += 1,
                Step::Sleep(_) => break,
            }
        }
        if self.next == MESSAGES {
            self.tx.close();
        }
        loop {
            match self.rx.poll_recv() {
                Ok(Step::Ready(answer)) => {
                    ensure(answer.descriptor().msg_id == self.answers)?;
                    self.answers += 1;
                }
                Ok(Step::Sleep(_)) => return Ok(()),
                Err(RecvError::Closed) => break,
                Err(_) => return Err(Failed::here()),
            }
        }
        self.ended = true;
        ensure(self.answers == MESSAGES)
    }

    fn send(&mut self) -> Result<Step<()>, Failed> {
        let number = self.next;
        let descriptor = MsgDescHot::data(number);
        let bytes = [number.to_le_bytes()[0]; LONGEST as usize];
        let payload = bytes.get(..length(number)).ok_or(Failed::here())?;
        if number.is_multiple_of(2) {
            return Ok(self.tx.poll_send(&descriptor, payload)?);
        }
        if self.waiting.is_none() {
            match self.tx.poll_loan(payload.len())? {
                Step::Ready(mut loan) => {
                    loan.zero();
                    ensure(loan.append(payload) == payload.len() && loan.written() == loan.len())?;
                    self.waiting = Some(loan);
                }
                Step::Sleep(ticket) => return Ok(Step::Sleep(ticket)),
            }
        }
        Ok(self.tx.poll_send_loan(&descriptor, &mut self.waiting)?)
    }
}

/// Checks what arrives and answers each message.
pub struct Handler {
    pub tx: Sender<Context>,
    pub rx: Receiver<Context>,
    received: u64,
    answered: u64,
    drained: bool,
    ended: bool,
}

impl Handler {
    pub fn new(tx: Sender<Context>, rx: Receiver<Context>) -> Self {
        Self { tx, rx, received: 0, answered: 0, drained: false, ended: false }
    }

    fn run(&mut self) -> Result<(), Failed> {
        loop {
            while self.answered < self.received {
                match self.tx.poll_send(&MsgDescHot::data(self.answered), b"")? {
                    Step::Ready(()) => self.answered += 1,
                    Step::Sleep(_) => return Ok(()),
                }
            }
            if self.drained {
                self.tx.close();
                self.ended = true;
                return Ok(());
            }
            match self.rx.poll_recv() {
                Ok(Step::Ready(message)) => {
                    let byte = self.received.to_le_bytes()[0];
                    ensure(message.descriptor().msg_id == self.received)?;
                    ensure(message.len() == length(self.received))?;
                    ensure(message.payload().iter().all(|seen| *seen == byte))?;
                    self.received += 1;
                }
                Ok(Step::Sleep(_)) => return Ok(()),
                Err(RecvError::Closed) => self.drained = true,
                Err(_) => return Err(Failed::here()),
            }
        }
    }
}

/// Length of a message: every one from nothing to a whole slot.
const fn length(number: u64) -> usize {
    (number % (LONGEST + 1)) as usize
}

/// Runs both contexts until both have ended.
pub fn run(main_loop: &mut MainLoop, handler: &mut Handler) -> Result<(), Failed> {
    while !(main_loop.ended && handler.ended) {
        let bits = runnable()?;
        if bits & 0b01 != 0 && !main_loop.ended {
            main_loop.run()?;
        }
        if bits & 0b10 != 0 && !handler.ended {
            handler.run()?;
        }
    }
    ensure(handler.received == MESSAGES)
}

impl From<SendError> for Failed {
    #[track_caller]
    fn from(_: SendError) -> Self {
        Self::here()
    }
}
