//! What was copied cannot change any more, and holds no slot.

mod common;

use common::assert_nothing_leaked;
use rapace_shm::core::layout::Span;
use rapace_shm::core::region::{InRegion, Region};
use rapace_shm::{Error, MsgDescHot, ShmSession, ShmSessionConfig};

#[test]
fn a_copy_does_not_change_and_holds_no_slot() {
    let (mut a, b) = ShmSession::pair(ShmSessionConfig { slot_count: 1, ..ShmSessionConfig::default() }).unwrap();
    let (to_a, from_a) = b.into_split();
    let mut from_a = from_a.copying();
    for (number, payload) in [(1, &b""[..]), (2, b"inline"), (3, &[7; 4096])] {
        a.split().0.send(&MsgDescHot::data(number), payload).unwrap();
        let message = from_a.recv().unwrap();
        assert_eq!((message.descriptor.msg_id, &message.payload[..]), (number, payload));
        // The peer writes all over the memory that they share.
        let region = to_a.endpoint().region();
        region.copy_in(Span { offset: region.size() - 4096, len: 4096 }, &[9; 4096]);
        assert_eq!(message.payload, payload);
        region.copy_in(Span { offset: region.size() - 4096, len: 4096 }, &[0xFF; 4096]);
    }
    assert_nothing_leaked(&a);
    assert!(matches!(from_a.try_recv(), Err(Error::Empty)));
    a.split().0.close();
    assert!(from_a.iter().next().is_none());
    assert!(matches!(from_a.into_inner().recv(), Err(Error::Closed)));
}
