//! Bytes that their sender reads on: whoever lets go last frees the slot, once, and nobody writes what another one still
//! reads. Also while they are sent again, and while a survivor takes a dead peer's share.
//!
//! Besides the mutants below, by hand: `free` that lets go in the ledger after the exchange makes
//! `bytes_sent_again_while_they_come_back_are_taken_over` a fault; a reaper that looks at the ledger before the metadata,
//! or that leaves a slot whose guard is between the exchange and its end, loses a slot in each of the three resets. (That a
//! guard settles its own turn only is shown by a test of the ledger: a model cannot stop a thread between two of the
//! ledger's steps that have no access to the region between them.)

use loom::thread;
use rapace_shm_core::layout::{MsgDescHot, ShmSessionConfig};
use rapace_shm_core::link::{Frozen, Link, LinkError, Payload};
use rapace_shm_loom_tests::{LoomEndpoint, Mutation, Peers, assert_all_free, check, killed, receive, slot_meta};

const ONE_SLOT: ShmSessionConfig = ShmSessionConfig { ring_capacity: 2, slot_size: 20, slot_count: 1 };
const TWO_SLOTS: ShmSessionConfig = ShmSessionConfig { slot_count: 2, ..ONE_SLOT };
const BYTES: [u8; 20] = [7; 20];
const DATA: MsgDescHot = MsgDescHot::data(1);

/// One side of a session.
type Side = Link<LoomEndpoint>;

/// What `from` sends and reads on, and what `to` has received of it.
fn lend(from: &mut Side, to: &mut Side) -> (Frozen<LoomEndpoint>, Payload<LoomEndpoint>) {
    let (tx, _) = from.split();
    let mut loan = tx.try_loan(20).unwrap();
    loan.append(&BYTES);
    let kept = loan.freeze();
    tx.try_send_frozen(&DATA, &kept).unwrap();
    let message = to.split().1.try_recv().unwrap().unwrap();
    assert_eq!(message.descriptor().payload_slot, kept.slot().reference);
    (kept, message.into_payload())
}

fn read(kept: &Frozen<LoomEndpoint>) {
    let mut seen = [0; 20];
    assert_eq!((kept.all().copy_to(&mut seen), seen), (20, BYTES));
}

/// Takes a slot if one is free, and writes all over it.
fn overwrite(side: &mut Side) {
    if let Ok(mut loan) = side.split().0.try_loan(20) {
        loan.append(&[9; 20]);
    }
}

/// Each side reads, lets go, and would write to the slot if it were free.
fn let_go_against_let_go(peers: Peers) {
    let (mut a, mut b) = peers.connect(ONE_SLOT);
    let (tx, _) = a.split();
    let mut loan = tx.try_loan(20).unwrap();
    loan.append(&BYTES);
    let kept = loan.freeze();
    tx.try_send_frozen(&DATA, &kept).unwrap();
    let receiver = thread::spawn(move || {
        let message = receive(b.split().1).unwrap();
        let mut seen = [0; 20];
        assert_eq!((message.copy_to(&mut seen), seen), (20, BYTES));
        drop(message);
        overwrite(&mut b);
        b
    });
    read(&kept);
    drop(kept);
    overwrite(&mut a);
    let b = receiver.join().unwrap();
    assert_all_free(&a);
    drop(b);
}

/// One thread of A drops what B has lent to it, while B sends the same again and A receives that.
fn let_go_against_send_again(peers: Peers) {
    let (mut a, mut b) = peers.connect(TWO_SLOTS);
    let (kept, payload) = lend(&mut b, &mut a);
    let dropping = thread::spawn(move || drop(payload));
    b.split().0.try_send_frozen(&DATA, &kept).unwrap();
    let message = receive(a.split().1).unwrap();
    let mut seen = [0; 20];
    assert_eq!((message.copy_to(&mut seen), seen), (20, BYTES));
    drop(message);
    read(&kept);
    drop(kept);
    dropping.join().unwrap();
    assert_all_free(&a);
}

fn reset(link: &mut Side) -> u32 {
    loop {
        match link.reset() {
            Ok(lost) => return lost,
            Err(LinkError::Busy) => thread::yield_now(),
            Err(other) => panic!("{other}"),
        }
    }
}

/// The other peer is gone; what it had of `link`'s slots is free, and each slot can be had once.
fn assert_good_as_new(link: &mut Side) {
    assert_all_free(link);
    let all: Vec<_> = std::iter::from_fn(|| link.split().0.try_loan(20).ok()).collect();
    assert_eq!(all.len(), link.status().slots.total as usize);
}

/// B has vanished with what A had lent to it; A resets while a thread of A lets go of it.
fn sender_against_reset(peers: Peers) {
    let (mut a, mut b) = peers.connect(TWO_SLOTS);
    let (kept, in_dead_hands) = lend(&mut a, &mut b);
    std::mem::forget((b, in_dead_hands));
    let dropping = thread::spawn(move || {
        read(&kept);
        drop(kept);
    });
    assert_eq!(reset(&mut a), 1, "B had one slot to read");
    overwrite(&mut a);
    dropping.join().unwrap();
    assert_good_as_new(&mut a);
}

/// B has vanished and had lent something to A; A resets while a thread of A lets go of it.
fn receiver_against_reset(peers: Peers) {
    let (mut a, mut b) = peers.connect(TWO_SLOTS);
    let (in_dead_hands, payload) = lend(&mut b, &mut a);
    std::mem::forget((b, in_dead_hands));
    let dropping = thread::spawn(move || drop(payload));
    assert_eq!(reset(&mut a), 1, "B had one slot to read");
    overwrite(&mut a);
    dropping.join().unwrap();
    assert_good_as_new(&mut a);
}

/// As there, but what was lent came back once and was lent again in the same generation: two threads of A let go.
fn two_receivers_against_reset(peers: Peers) {
    let (mut a, mut b) = peers.connect(ONE_SLOT);
    let (kept, payload) = lend(&mut b, &mut a);
    let first = thread::spawn(move || drop(payload));
    // In place, as there is no other slot.
    while b.split().0.try_send_frozen(&DATA, &kept).is_err() {
        thread::yield_now();
    }
    let again = receive(a.split().1).unwrap().into_payload();
    std::mem::forget((b, kept));
    let second = thread::spawn(move || drop(again));
    assert_eq!(reset(&mut a), 1, "B had one slot to read");
    first.join().unwrap();
    second.join().unwrap();
    assert_good_as_new(&mut a);
}

/// A's ledger is used by several threads; something is wrong with A.
fn sharing(mutation: Mutation) -> Peers {
    Peers { shares_ledger_of_a: true, ..Peers::a(mutation) }
}

#[test]
fn whoever_lets_go_last_frees_the_slot_and_nobody_writes_before() {
    check(|| let_go_against_let_go(Peers::default()));
}

#[test]
fn bytes_sent_again_while_they_come_back_are_taken_over() {
    check(|| let_go_against_send_again(sharing(Mutation::None)));
}

#[test]
fn a_sender_that_lets_go_during_a_reset_goes_back_once() {
    check(|| sender_against_reset(sharing(Mutation::None)));
}

#[test]
fn a_receiver_that_lets_go_during_a_reset_goes_back_once() {
    check(|| receiver_against_reset(sharing(Mutation::None)));
}

#[test]
fn a_reset_while_two_flights_of_the_same_bytes_end() {
    check(|| two_receivers_against_reset(sharing(Mutation::None)));
}

#[test]
fn without_one_step_for_the_state_a_share_is_lost() {
    let meta = slot_meta(&ONE_SLOT, 0);
    killed("", move || let_go_against_let_go(Peers::a(Mutation::TornExchange(meta))));
    killed("", move || let_go_against_let_go(Peers::b(Mutation::TornExchange(meta))));
}

#[test]
fn without_order_in_the_state_the_slot_is_written_while_it_is_read() {
    let meta = slot_meta(&ONE_SLOT, 0);
    killed("", move || let_go_against_let_go(Peers::a(Mutation::NoRelease(meta))));
    killed("", move || let_go_against_let_go(Peers::b(Mutation::NoAcquire(meta))));
}

#[test]
fn without_one_step_for_the_state_a_reset_loses_a_share() {
    let meta = slot_meta(&TWO_SLOTS, 0);
    killed("", move || sender_against_reset(sharing(Mutation::TornExchange(meta))));
    killed("", move || receiver_against_reset(sharing(Mutation::TornExchange(meta))));
}
