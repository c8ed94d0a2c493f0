//! The conformance scenario: what two peers of a session do to each other, whatever memory is between them and
//! however they wait. Each backend implements [`Peer`] and calls [`talk`] on both sides at once.

use rapace_shm_core::layout::{FrameFlags, INLINE_PAYLOAD_SIZE, MsgDescHot};

/// One side of a session, blocking.
pub trait Peer {
    /// The largest message in bytes.
    fn max_payload(&self) -> usize;
    /// Sends by copying.
    fn send(&mut self, descriptor: &MsgDescHot, payload: &[u8]);
    /// Sends by writing in place, in a loan that is first too long and then truncated.
    fn send_in_place(&mut self, descriptor: &MsgDescHot, payload: &[u8]);
    /// Sends several by copying, made visible at once.
    fn send_batch(&mut self, messages: &[(MsgDescHot, Vec<u8>)]);
    /// Receives: descriptor and bytes, or `None` after the peer's last message.
    fn recv(&mut self) -> Option<(MsgDescHot, Vec<u8>)>;
    /// Sends no more.
    fn close(&mut self);
}

/// Message `number` of a peer whose messages start with `seed`.
fn message(seed: u8, number: u64, max: usize) -> (MsgDescHot, Vec<u8>) {
    let sizes = [0, 1, INLINE_PAYLOAD_SIZE, INLINE_PAYLOAD_SIZE + 1, max / 2, max - 1, max];
    let index = usize::try_from(number).unwrap() % sizes.len();
    let bytes = (0..sizes[index]).map(|i| seed.wrapping_add((i as u64 + number).to_le_bytes()[0])).collect();
    let mut descriptor = MsgDescHot::data(number);
    descriptor.channel_id = u32::from(seed);
    descriptor.flags |= FrameFlags::EOS;
    (descriptor, bytes)
}

/// Peer A sends `rounds` requests and checks each answer; B answers every request with its own message of that number.
/// Then A closes, B sees the end, says goodbye in a batch and closes, and A receives that before it sees the end.
pub fn talk(peer: &mut impl Peer, is_a: bool, rounds: u64) {
    let max = peer.max_payload();
    let (mine, theirs) = if is_a { (b'a', b'b') } else { (b'b', b'a') };
    let goodbye: Vec<_> = (0..3).map(|number| message(b'g', number, 8)).collect();
    for number in 0..rounds {
        if is_a {
            say(peer, number, message(mine, number, max));
        }
        expect(peer, message(theirs, number, max));
        if !is_a {
            say(peer, number, message(mine, number, max));
        }
    }
    if is_a {
        peer.close();
        for message in goodbye {
            expect(peer, message);
        }
    } else {
        assert!(peer.recv().is_none(), "A has closed");
        peer.send_batch(&goodbye);
        peer.close();
    }
    assert!(peer.recv().is_none(), "the end is the end");
}

/// One way, as fast as it goes: more messages than rings and slots hold, so both sides wait for each other.
pub fn flood(peer: &mut impl Peer, is_a: bool, messages: u64) {
    let max = peer.max_payload();
    for number in 0..messages {
        if is_a {
            say(peer, number, message(b'f', number, max));
        } else {
            expect(peer, message(b'f', number, max));
        }
    }
}

fn say(peer: &mut impl Peer, number: u64, (descriptor, payload): (MsgDescHot, Vec<u8>)) {
    match number % 3 {
        0 => peer.send(&descriptor, &payload),
        1 => peer.send_in_place(&descriptor, &payload),
        _ => peer.send_batch(&[(descriptor, payload)]),
    }
}

fn expect(peer: &mut impl Peer, (descriptor, payload): (MsgDescHot, Vec<u8>)) {
    let (seen, bytes) = peer.recv().expect("the peer has not closed yet");
    assert_eq!(seen.msg_id, descriptor.msg_id);
    assert_eq!((seen.channel_id, seen.flags), (descriptor.channel_id, descriptor.flags));
    assert_eq!(bytes, payload, "payload of message {}", seen.msg_id);
}
