//! What is sent without a copy and what stays readable: bytes that many read, and vectors that were born in a slot.
//!
//! Seen to fail on these mutants: `ShmBytes::slice` that takes its range from the slot's start (the wrong bytes arrive);
//! `send_bytes` that copies always (another address arrives); a `ShmBytes` that leaks its slot (the census is not zero);
//! `send_vec_until` that gives up when the ring is full (an error where the call should wait).

use std::time::{Duration, Instant};

use rapace_shm::core::wake::Step;
use rapace_shm::{Error, MsgDescHot, Sender, ShmBytes, ShmSession, ShmSessionConfig};

const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 4, slot_size: 256, slot_count: 4 };
const DATA: MsgDescHot = MsgDescHot::data(1);

fn pair() -> (ShmSession, ShmSession) {
    ShmSession::pair(CONFIG).unwrap()
}

fn bytes(tx: &mut Sender, len: usize) -> ShmBytes {
    let mut loan = tx.try_loan(len).unwrap();
    loan.iter_mut().zip(0..).for_each(|(byte, number)| *byte = number);
    ShmBytes::from(loan)
}

fn assert_nothing_leaked(session: &mut ShmSession) {
    let slots = session.status().slots;
    assert_eq!((slots.free, slots.free_list_len), (CONFIG.slot_count, CONFIG.slot_count), "{slots}");
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(30)
}

#[test]
fn clones_are_readable_in_flight_and_afterwards_and_the_last_one_frees_the_slot() {
    let (mut a, mut b) = pair();
    let kept = shared(bytes(a.split().0, 200));
    let expected: Vec<u8> = (0..200).collect();
    a.split().0.send_bytes(&DATA, &kept).unwrap();
    let clones: Vec<_> = (0..3).map(|_| kept.clone()).collect();
    drop(kept);
    let readers: Vec<_> = clones.into_iter().map(|bytes| read_in_a_thread(bytes, expected.clone())).collect();
    let received = b.split().1.recv().unwrap();
    assert_eq!(received.payload(), expected);
    let mut read: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    let kept = read.swap_remove(0);
    drop(read);
    assert_eq!(received.payload().as_ptr(), kept.as_ptr(), "it was not copied");
    drop(received);
    assert_eq!((&kept[..], a.status().slots.free), (&expected[..], 3));
    drop(kept);
    assert_nothing_leaked(&mut a);
}

fn shared<T: Send + Sync + Clone>(bytes: T) -> T {
    bytes
}

fn read_in_a_thread(bytes: ShmBytes, expected: Vec<u8>) -> std::thread::JoinHandle<ShmBytes> {
    std::thread::spawn(move || {
        assert_eq!(*bytes, *expected);
        bytes
    })
}

#[test]
fn a_slice_of_a_slice_is_sent_from_where_it_lies() {
    let (mut a, mut b) = pair();
    let whole = bytes(a.split().0, 200);
    let part = whole.slice(50..150).unwrap().slice(10..90).unwrap();
    assert_eq!((part.len(), part.first(), part.last()), (80, Some(&60), Some(&139)));
    a.split().0.send_bytes(&DATA, &part).unwrap();
    let received = b.split().1.recv().unwrap();
    assert_eq!((received.payload(), received.payload().as_ptr()), (&part[..], whole[60..].as_ptr()));
    assert_eq!(received.descriptor().payload_offset, 60);
    #[allow(clippy::reversed_empty_ranges)] // they must be refused
    for outside in [0..101, 101..101, 5..4, 0..usize::MAX] {
        assert_eq!(whole.slice(50..150).unwrap().slice(outside), None);
    }
    assert_eq!(whole.slice(200..200), Some(ShmBytes::new()));
    drop((whole, received));
    assert_eq!(part.first(), Some(&60), "a slice keeps the slot");
    drop(part);
    assert_nothing_leaked(&mut a);
}

#[test]
fn no_bytes_and_few_bytes_go_inside_the_descriptor() {
    let (mut a, mut b) = pair();
    let whole = bytes(a.split().0, 200);
    for sent in [ShmBytes::new(), whole.slice(9..9).unwrap(), whole.slice(9..25).unwrap()] {
        a.split().0.send_bytes(&DATA, &sent).unwrap();
        let received = b.split().1.recv().unwrap();
        assert!(received.descriptor().is_inline() && received.payload() == &sent[..]);
    }
}

#[test]
fn bytes_wait_for_room_and_for_a_slot_up_to_a_deadline() {
    let (mut a, mut b) = pair();
    let kept = bytes(a.split().0, 100);
    let (tx, rx) = (a.split().0, b.split().1);
    // In place, then copies, until no slot is free.
    (0..4).for_each(|_| tx.try_send_bytes(&DATA, &kept).unwrap());
    drop(rx.recv().unwrap());
    drop(rx.recv().unwrap());
    let loans: Vec<_> = std::iter::from_fn(|| tx.try_loan(1).ok()).collect();
    tx.try_send_bytes(&DATA, &kept).unwrap();
    assert!(matches!(tx.try_send_bytes(&DATA, &kept), Err(Error::Full)));
    assert!(matches!(tx.send_bytes_deadline(&DATA, &kept, soon()), Err(Error::Timeout)));
    drop(loans);
    // Now there are slots, and then no place in the ring.
    tx.try_send_bytes(&DATA, &kept).unwrap();
    assert!(matches!(tx.send_bytes_deadline(&DATA, &ShmBytes::new(), soon()), Err(Error::Timeout)));
    for bytes in [&kept, &ShmBytes::new()] {
        assert!(matches!(tx.poll_send_bytes(&DATA, bytes), Ok(Step::Sleep(_))));
        tx.disarm();
    }
    assert!(matches!(tx.send_bytes_deadline(&DATA, &kept, soon()), Err(Error::Timeout)));
    while let Ok(message) = rx.try_recv() {
        assert_eq!(message.payload(), &kept[..]);
    }
    let (mut other, _peer) = pair();
    assert!(matches!(other.split().0.send_bytes(&DATA, &kept), Err(Error::ForeignLoan)));
    drop(kept);
    assert_nothing_leaked(&mut a);
}

#[test]
fn two_threads_send_and_read_what_the_other_lets_go_of() {
    const ROUNDS: u64 = 2000;
    let (mut a, b) = pair();
    let (b_tx, mut b_rx) = b.into_split();
    let reader = std::thread::spawn(move || {
        let mut numbers = 0;
        for message in b_rx.iter() {
            let message = message.unwrap();
            assert!(message.payload().iter().all(|byte| *byte == message.descriptor().msg_id.to_le_bytes()[0]));
            numbers += 1;
        }
        drop(b_tx);
        numbers
    });
    for number in 0..ROUNDS {
        let mut loan = a.split().0.loan_deadline(200, Instant::now() + Duration::from_secs(20)).unwrap();
        loan.fill(number.to_le_bytes()[0]);
        let kept = ShmBytes::from(loan);
        a.split().0.send_bytes(&MsgDescHot::data(number), &kept).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        a.split().0.send_bytes_deadline(&MsgDescHot::data(number), &kept.clone(), deadline).unwrap();
        assert!(kept.iter().all(|byte| *byte == number.to_le_bytes()[0]));
    }
    a.split().0.close();
    assert_eq!(reader.join().unwrap(), 2 * ROUNDS);
    assert_nothing_leaked(&mut a);
}

#[cfg(feature = "allocator")]
mod vectors {
    use rapace_shm::{shm_vec, shm_vec_with_capacity};

    use super::*;

    #[test]
    fn a_vector_born_in_a_slot_arrives_without_a_copy() {
        let (mut a, mut b) = pair();
        let mut numbers = shm_vec_with_capacity::<u64>(&a.allocator(), 25).unwrap();
        numbers.extend(0..25);
        let born = numbers.as_ptr().addr();
        a.split().0.send_vec(&DATA, numbers).unwrap();
        let received = b.split().1.recv().unwrap();
        assert_eq!(received.payload().as_ptr().addr(), born);
        assert!(received.payload().iter().copied().eq((0..25).flat_map(u64::to_ne_bytes)));
        drop(received);
        assert_nothing_leaked(&mut a);
    }

    #[test]
    fn a_vector_becomes_bytes_that_stay_readable() {
        let (mut a, mut b) = pair();
        let vec = shm_vec(&a.allocator(), &[4; 100]).unwrap();
        let born = vec.as_ptr();
        let kept = ShmBytes::from(vec);
        a.split().0.send_bytes(&DATA, &kept).unwrap();
        let received = b.split().1.recv().unwrap();
        assert_eq!((received.payload(), received.payload().as_ptr()), (&kept[..], born));
        drop(received);
        assert_eq!(*kept, [4; 100]);
        drop(kept);
        assert!(ShmBytes::from(shm_vec(&a.allocator(), b"").unwrap()).is_empty());
        assert_nothing_leaked(&mut a);
    }

    #[test]
    fn a_vector_that_was_not_sent_comes_back() {
        let (mut a, b) = pair();
        let (mut other, _peer) = pair();
        let vec = shm_vec(&a.allocator(), &[1; 40]).unwrap();
        let unsent = other.split().0.send_vec(&DATA, vec).unwrap_err();
        assert!(matches!(unsent.error, Error::ForeignLoan));
        let (tx, _) = a.split();
        (0..4).for_each(|_| tx.send(&DATA, b"").unwrap());
        let unsent = tx.try_send_vec(&DATA, unsent.loan.unwrap()).unwrap_err();
        assert!(matches!(unsent.error, Error::Full));
        let mut waiting = unsent.loan;
        assert!(matches!(tx.poll_send_vec(&DATA, &mut waiting), Ok(Step::Sleep(_))));
        tx.disarm();
        let unsent = tx.send_vec_deadline(&DATA, waiting.unwrap(), soon()).unwrap_err();
        assert!(matches!(unsent.error, Error::Timeout));
        let vec = unsent.loan.unwrap();
        assert_eq!(*vec, [1; 40]);
        // It waits until the peer makes room.
        let (_b_tx, mut rx) = b.into_split();
        let receiver = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            (0..5).map(|_| rx.recv().unwrap().len()).collect::<Vec<_>>()
        });
        tx.send_vec(&DATA, vec).unwrap();
        assert_eq!(receiver.join().unwrap(), [0, 0, 0, 0, 40]);
        assert_nothing_leaked(&mut a);
    }

    #[test]
    fn what_does_not_fit_is_told_from_what_finds_no_slot() {
        let (mut a, _b) = pair();
        let allocator = a.allocator();
        assert!(matches!(shm_vec(&allocator, &[0; 241]), Err(Error::TooLarge { len: 241, max: 240 })));
        let held: Vec<_> = (0..4).map(|_| shm_vec(&allocator, &[0; 240]).unwrap()).collect();
        assert!(matches!(shm_vec_with_capacity::<u32>(&a.split().0.allocator(), 1), Err(Error::Full)));
        drop(held);
        assert_nothing_leaked(&mut a);
    }
}
