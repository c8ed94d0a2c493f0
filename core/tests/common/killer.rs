//! A peer that is killed at one access to the shared memory, and a life full of accesses.
//!
//! "Killed" is an unwinding from within the access, after which no access of that peer has any effect: what its
//! destructors would do to the memory does not happen, just as with `SIGKILL`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rapace_shm_core::endpoint::Endpoint;
use rapace_shm_core::layout::MsgDescHot;
use rapace_shm_core::link::{Frozen, Loan, Message, Payload, Receiver, Sender};
use rapace_shm_core::region::ByteRegion;
use rapace_shm_core::slots::SlotPool;
use rapace_shm_core::wake::Step;

use super::HeapRegion;
use super::watched::Watch;

/// Kills at one access; from then on nothing happens any more.
pub struct Killer {
    pub left: AtomicU64,
    pub dead: AtomicBool,
}

/// What a killed peer unwinds with.
pub struct Killed;

impl Killer {
    pub fn at(access: u64) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(access), dead: AtomicBool::new(false) })
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }
}

impl Watch for Killer {
    fn access(&self, _: &HeapRegion) -> bool {
        if self.is_dead() {
            return false;
        }
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.dead.store(true, Ordering::Relaxed);
            resume_unwind(Box::new(Killed));
        }
        true
    }
}

/// Runs a peer's life; says whether it was killed before its end.
pub fn dies<T>(life: impl FnOnce() -> T) -> bool {
    match catch_unwind(AssertUnwindSafe(life)) {
        Ok(_) => false,
        Err(reason) if reason.is::<Killed>() => true,
        Err(panic) => resume_unwind(panic),
    }
}

pub fn slot(number: u64) -> [u8; 40] {
    [number.to_le_bytes()[0]; 40]
}

pub fn frozen<E: Endpoint, P: SlotPool>(tx: &mut Sender<E, P>, number: u64) -> Frozen<E, P> {
    let mut loan = tx.try_loan(40).unwrap();
    loan.append(&slot(number));
    loan.freeze()
}

/// Everything that a peer does, once: receive inline, in place and on loan from the other, hold, free, loan, send in place
/// and copied, in batches, to read on, give up a loan, wait for data, space and slots, fill the ring, close.
pub fn live<E, P>(tx: &mut Sender<E, P>, rx: &mut Receiver<E, P>)
where
    E: Endpoint,
    P: SlotPool,
    E::Region: ByteRegion,
{
    let held: Option<Payload<E, P>> = rx.try_recv().unwrap().map(Message::into_payload);
    drop(rx.try_recv().unwrap());
    let mut loan = tx.try_loan(40).unwrap();
    loan.append(&slot(1));
    tx.try_send_loan(&MsgDescHot::data(100), loan).unwrap();
    drop(tx.try_loan(40).unwrap());
    let kept = [1, 2].map(|number| frozen(tx, number));
    tx.try_send_frozen(&MsgDescHot::data(100), &kept[0]).unwrap();
    tx.try_send_frozen(&MsgDescHot::data(100), &kept[0]).unwrap();
    let [sent, unsent] = kept;
    drop(unsent);
    let _ = tx.feed(&MsgDescHot::data(101), &slot(2));
    let _ = tx.feed(&MsgDescHot::data(102), b"inline");
    tx.flush();
    drop(rx.try_recv().unwrap());
    let _ = rx.poll_recv().unwrap();
    rx.disarm();
    let loans: Vec<Loan<E, P>> = std::iter::from_fn(|| tx.try_loan(20).ok()).collect();
    let _ = tx.poll_loan(20).unwrap();
    drop(loans);
    for number in 103..110 {
        if let Step::Sleep(_) = tx.poll_send(&MsgDescHot::data(number), &slot(3)).unwrap() {
            break;
        }
    }
    tx.disarm();
    drop(held);
    drop(sent);
    tx.close();
    rx.close();
}

/// Runs `scenario` once per access; it says whether the peer died before its life was over.
pub fn at_every_access(mut scenario: impl FnMut(u64) -> bool) {
    let accesses = (1..).take_while(|access| scenario(*access)).count();
    assert!(accesses > 200, "only {accesses} kill points: the mortal's life has become short");
}
