//! Frames made by the encoder: what is referenced where it lies, what is copied, and what is refused.
//!
//! Seen to fail: a second chunk that replaces the first; a frame that is sent by its slot whatever generation that has; a
//! view whose slot is freed only when the next frame is there; a close that does not end the own `recv_frame`.

#![cfg(feature = "rapace")]

use rapace_core::{EncodeError, Frame, MsgDescHot, Transport, TransportError, ValidationError};
use rapace_shm::{ShmBytes, ShmSessionConfig};
use rapace_shm_async::{RapaceTransport, ShmTransport};

const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 8, slot_size: 256, slot_count: 4 };

fn pair() -> [RapaceTransport; 2] {
    let (a, b) = ShmTransport::pair(CONFIG).unwrap();
    // SAFETY: no view is used here once the next frame was received.
    [a, b].map(|transport| unsafe { RapaceTransport::new(transport) })
}

fn on<T>(future: impl Future<Output = T>) -> T {
    async_io::block_on(future)
}

/// 100 bytes that count up.
fn frozen(transport: &RapaceTransport) -> ShmBytes {
    let mut loan = on(transport.transport().loan(100)).unwrap();
    loan.iter_mut().zip(0..).for_each(|(byte, number)| *byte = number);
    ShmBytes::from(loan)
}

fn encode(transport: &RapaceTransport, chunks: &[&[u8]]) -> Frame {
    let mut encoder = transport.encoder();
    for chunk in chunks {
        encoder.encode_bytes(chunk).unwrap();
    }
    encoder.finish().unwrap()
}

#[test]
fn one_chunk_of_frozen_bytes_is_sent_where_it_lies_and_stays_readable() {
    let [a, b] = pair();
    let bytes = frozen(&a);
    let frame = encode(&a, &[&bytes[10..90]]);
    assert!(frame.payload.is_none(), "nothing was copied");
    on(a.send_frame(&frame)).unwrap();
    let received = on(b.recv_frame()).unwrap();
    assert_eq!(received.payload, &bytes[10..90]);
    let (slot, _) = bytes.location().unwrap();
    assert_eq!((received.desc.payload_slot, received.desc.payload_generation), (slot.reference, slot.generation));
    // A frame is sent again; the first flight is not over, so this one is a copy.
    on(a.send_frame(&frame)).unwrap();
    assert_eq!(on(b.recv_frame()).unwrap().payload, &bytes[10..90]);
    drop(bytes);
    drop(b);
    assert_eq!(a.transport().endpoint().bytes_in(slot, 0..1), None, "nobody holds them");
}

#[test]
fn chunks_of_both_kinds_arrive_whole_and_in_order() {
    let [a, b] = pair();
    let bytes = frozen(&a);
    let copied = [200; 40];
    let cases: [&[&[u8]]; 6] = [
        &[],
        &[&bytes[..5]],
        &[&copied],
        &[&bytes[..50], &copied],
        &[&copied, &bytes[50..]],
        &[&bytes[..30], &[], &bytes[30..60], &copied[..3]],
    ];
    for chunks in cases {
        on(a.send_frame(&encode(&a, chunks))).unwrap();
        assert_eq!(on(b.recv_frame()).unwrap().payload, chunks.concat());
    }
}

#[test]
fn a_frame_whose_bytes_are_gone_is_an_error_and_never_other_bytes() {
    let [a, b] = pair();
    let bytes = frozen(&a);
    let frame = encode(&a, &[&bytes]);
    drop(bytes);
    // The slot is somebody else's by now.
    let others: Vec<_> = (0..4).map(|_| frozen(&a)).collect();
    let refused = on(a.send_frame(&frame)).unwrap_err();
    assert!(matches!(refused, TransportError::Encode(EncodeError::EncodeFailed(_))), "{refused}");
    drop(others);
    let refused = on(b.send_frame(&frame)).unwrap_err();
    assert!(matches!(refused, TransportError::Encode(EncodeError::EncodeFailed(_))), "{refused}");
}

#[test]
fn what_cannot_be_sent_is_refused_with_both_sizes() {
    let [a, _b] = pair();
    let mut encoder = a.encoder();
    encoder.encode_bytes(&[0; 200]).unwrap();
    let refused = encoder.encode_bytes(&[0; 57]).unwrap_err();
    assert!(matches!(refused, EncodeError::BufferTooSmall { needed: 257, available: 256 }), "{refused}");
    let refused = on(a.send_frame(&Frame::with_payload(MsgDescHot::new(), vec![0; 257]))).unwrap_err();
    let TransportError::Validation(ValidationError::PayloadTooLarge { len: 257, max: 256 }) = refused else {
        panic!("{refused}");
    };
    let mut lying = Frame::new(MsgDescHot::new());
    lying.desc.payload_len = 17;
    let refused = on(a.send_frame(&lying)).unwrap_err();
    assert!(matches!(refused, TransportError::Validation(ValidationError::InlinePayloadTooLarge { len: 17, max: 16 })));
}

/// With a single slot, a view that kept it would keep the next frame from being sent.
#[test]
fn a_view_keeps_no_slot_once_the_next_frame_is_awaited() {
    let (a, b) = ShmTransport::pair(ShmSessionConfig { slot_count: 1, ..CONFIG }).unwrap();
    // SAFETY: no view is used here once the next frame was received.
    let [a, b] = [a, b].map(|transport| unsafe { RapaceTransport::new(transport) });
    on(async {
        for number in 0..3 {
            let frame = Frame::with_payload(MsgDescHot::new(), vec![number; 100]);
            let (sent, received) = futures::join!(a.send_frame(&frame), b.recv_frame());
            sent.unwrap();
            assert_eq!(received.unwrap().payload, [number; 100]);
        }
    });
}

#[test]
fn a_close_ends_the_own_receive_and_the_peers() {
    let [a, b] = pair();
    on(async {
        let (received, closed) = futures::join!(a.recv_frame(), a.close());
        closed.unwrap();
        assert!(matches!(received, Err(TransportError::Closed)));
        assert!(matches!(b.recv_frame().await, Err(TransportError::Closed)));
    });
    assert!(matches!(on(a.send_frame(&Frame::new(MsgDescHot::new()))), Err(TransportError::Closed)));
}
