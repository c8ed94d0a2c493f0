//! Rubbish in the segment while a peer of the published crate is attached: whatever becomes of that one, ours answers each call
//! with something that the documentation names, and soon.
//!
//! `RAPACE_SHM_RUBBISH=1000 cargo test -p rapace-shm --test old_peers rubbish` runs more trials than the default.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rapace_core::Transport;
use rapace_shm::core::layout::SegmentOffsets;
use rapace_shm::{Error, MsgDescHot, Payload, Receiver, Sender, ShmSession, ShmSessionConfig};

use crate::common::{Folder, Second, part, times};
use crate::old::{self, ShmTransport};

const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 4, slot_size: 64, slot_count: 6 };

/// How long a trial lasts from the first message on.
const TRIAL: Duration = Duration::from_millis(60);
/// The longest that a call may take that need not wait for longer than [`WAIT`].
const PROMPT: Duration = Duration::from_secs(2);
const WAIT: Duration = Duration::from_millis(1);

/// The published side, in its process: sends and receives until it is killed, or has had enough. What it
/// makes of the rubbish is not what is tested here.
#[test]
fn old_side() {
    let Some(path) = part("rubbish::old_side") else { return };
    let transport = ShmTransport::new(old::open(Path::new(&path)));
    old::run(async {
        let frame = |len: usize| rapace_core::Frame::with_payload(rapace_core::MsgDescHot::new(), vec![7; len]);
        let send = async {
            for len in (17..=64).cycle() {
                if transport.send_frame(&frame(len)).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        let receive = async { while transport.recv_frame().await.is_ok() {} };
        tokio::join!(send, receive);
    });
}

/// Somebody else who has the file open, and writes into it until told to stop (or the trial has failed).
fn vandalise(path: &Path, seed: u64, stop: &AtomicBool) {
    let file = File::options().write(true).read(true).open(path).unwrap();
    let mut rng = Rng::with_seed(seed);
    let offsets = SegmentOffsets::calculate(&CONFIG).unwrap();
    // A free slot's link is in its data, which is written to like the rest.
    let end = offsets.end / 4;
    let headers = [0, offsets.a_to_b_ring, offsets.b_to_a_ring, offsets.data_header, offsets.slot_meta];
    let descriptors = offsets.b_to_a_descriptors;
    let limit = Instant::now() + old::LIMIT;
    while !stop.load(Ordering::Relaxed) && Instant::now() < limit {
        let at = match rng.u8(..4) {
            0 => 4 * rng.usize(..end),
            // Slot, generation, offset and length of a message to us.
            1 => descriptors + 64 * rng.usize(..4) + 16 + 4 * rng.usize(..4),
            _ => (headers[rng.usize(..headers.len())] + 4 * rng.usize(..48)).min(4 * (end - 1)),
        };
        let mut seen = [0; 4];
        file.read_exact_at(&mut seen, at as u64).unwrap();
        let seen = u32::from_ne_bytes(seen);
        let value = match rng.u8(..6) {
            0 => 0,
            1 => u32::MAX,
            2 => rng.u32(..6),
            3 => seen.wrapping_add(1),
            4 => seen ^ 1 << rng.u32(..32),
            _ => rng.u32(..),
        };
        file.write_all_at(&value.to_ne_bytes(), at as u64).unwrap();
        std::thread::sleep(Duration::from_micros(rng.u64(..300)));
    }
}

/// A call that comes back.
fn promptly<T>(call: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let answer = call();
    assert!(begin.elapsed() < PROMPT, "a call took {:?}", begin.elapsed());
    answer
}

/// Whether this is an answer after which there is more to try.
fn goes_on(error: &Error) -> bool {
    match error {
        Error::Timeout | Error::Full | Error::Empty => true,
        Error::PeerFault(_) | Error::Closed | Error::PeerDied => false,
        other => panic!("{other}"),
    }
}

/// Sends in all ways until the end, or until there is nothing more to say.
fn send(mut tx: Sender, end: Instant) -> Sender {
    for number in 0.. {
        let len = number % 65;
        let wait = Instant::now() + WAIT;
        let descriptor = MsgDescHot::data(number as u64);
        let sent = promptly(|| match number % 3 {
            0 => tx.send_deadline(&descriptor, &[1; 64][..len], wait),
            1 => tx.loan_deadline(len, wait).map(drop),
            _ => tx.loan_deadline(len, wait).and_then(|mut loan| {
                loan.fill(2);
                tx.send_loan_deadline(&descriptor, loan, wait).map_err(|unsent| unsent.error)
            }),
        });
        if sent.is_err_and(|error| !goes_on(&error)) || Instant::now() > end {
            break;
        }
    }
    tx
}

/// Receives until the end, and holds a few payloads meanwhile. Returns what ended it, if something did.
fn receive(rx: &mut Receiver, end: Instant) -> Option<Error> {
    let mut held: [Option<Payload>; 3] = Default::default();
    for number in 0.. {
        if number % 8 == 0 {
            // Lets messages lie in the ring for somebody to spoil.
            std::thread::sleep(WAIT);
        }
        match promptly(|| rx.recv_deadline(Instant::now() + WAIT)) {
            Ok(message) => {
                let MsgDescHot { payload_offset, payload_len, .. } = *message.descriptor();
                let end = u64::from(payload_offset) + u64::from(payload_len);
                assert!(message.descriptor().is_inline() || end <= 64, "{message:?}");
                assert!(message.payload().len() == message.len());
                held[number % 3] = Some(message.into_payload());
            }
            Err(error) if goes_on(&error) => {}
            Err(error) => return Some(error),
        }
        if Instant::now() > end {
            break;
        }
    }
    None
}

/// One trial; whether a fault of the peer was reported.
fn trial(seed: u64) -> bool {
    let folder = Folder::new();
    let path = folder.join("session");
    let mut session = ShmSession::create_at(&path, CONFIG).unwrap();
    let mut other = Second::unheard("rubbish::old_side", &path);
    session.split().1.recv_deadline(Instant::now() + old::LIMIT).unwrap();
    let (stop, end) = (AtomicBool::new(false), Instant::now() + TRIAL);
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| vandalise(&path, seed, &stop));
        let (tx, mut rx) = session.into_split();
        let sending = scope.spawn(move || send(tx, end));
        let ended = receive(&mut rx, end);
        let mut session = ShmSession::reunite(sending.join().unwrap(), rx).unwrap();
        other.kill();
        // A snapshot, a reset and the end, while the rubbish goes on.
        promptly(|| session.status());
        let _ = promptly(|| session.reset());
        promptly(|| drop(session));
        stop.store(true, Ordering::Relaxed);
        ended
    });
    matches!(ended, Some(Error::PeerFault(_)))
}

#[test]
fn rubbish_beside_an_old_peer_is_a_fault_and_no_more() {
    let trials = times("RAPACE_SHM_RUBBISH", 100);
    let faults = (0..trials).filter(|seed| trial(u64::from(*seed))).count();
    println!("{faults} of {trials} trials ended in a fault");
    assert!(faults > 0, "nothing was tested");
}
