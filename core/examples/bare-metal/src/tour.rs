//! Every public operation that the session between the two contexts does not need, so that the linker sees them all.
//! (All but formatting: `Debug` and `Display` are for whoever has a place to print to.)

use core::alloc::Layout;
use core::hint::black_box;
use core::sync::atomic::Ordering;

use rapace_shm_core::PeerFault;
use rapace_shm_core::allocator::allocator_api2::alloc::Allocator;
use rapace_shm_core::endpoint::{Endpoint, Half, PeerId, Polled, SleepKind};
use rapace_shm_core::layout::{
    At, DescRingHeader, FrameFlags, LayoutError, Line, MsgDescHot, SegmentHeader, SegmentOffsets, ShmSessionConfig,
    SlotMeta, SlotState, Span, calculate_segment_size,
};
use rapace_shm_core::ledger::{HasLedger, Ledger, LedgerEntry, LedgerIn};
use rapace_shm_core::link::{Link, LinkError, PeerRole, Receiver, RecvError, SendError, Sender, Session};
use rapace_shm_core::region::{ByOffset, ByteRegion, InRegion, Lines, Memory, RawRegion, Region, SlotRights, Word};
use rapace_shm_core::ring::{Consumer, DescRing, Producer, RingError};
use rapace_shm_core::slots::{DataSegment, Slot, SlotPool};
use rapace_shm_core::wake::Step;

use crate::{Failed, ensure};

const SLOTS: usize = 4;
const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 2, slot_size: 64, slot_count: SLOTS as u32 };

type Side = Polled<RawRegion, &'static Ledger<SLOTS>>;

/// Calls everything once, with arguments that the optimiser cannot see through.
pub fn every_operation() -> Result<(), Failed> {
    layout()?;
    region()?;
    ring()?;
    session()?;
    slots()?;
    allocator()
}

fn layout() -> Result<(), Failed> {
    let config = black_box(CONFIG);
    ensure(config.validate().is_ok())?;
    let offsets = SegmentOffsets::calculate(&config).map_err(failed)?;
    let size = calculate_segment_size(&config).map_err(failed)?;
    ensure(offsets.whole().len == size)?;
    for wrong in [
        ShmSessionConfig { ring_capacity: 3, ..config },
        ShmSessionConfig { slot_size: u32::MAX, slot_count: u32::MAX, ..config },
        ShmSessionConfig { slot_count: 0, ..config },
    ] {
        ensure(calculate_segment_size(&black_box(wrong)).is_err())?;
    }
    ensure(ShmSessionConfig::default().validate().is_ok())?;
    let at = At::<u32>::new(black_box(64)).within(black_box(usize::MAX));
    ensure(At::<Line>::new(black_box(64)).nth(black_box(2)).offset() == 192)?;
    ensure(at.offset() != black_box(1))?;
    let meta = SlotMeta::new(black_box(7), SlotState::InFlight);
    ensure(SlotMeta::from_word(meta.to_word()) == meta)?;
    ensure(SlotState::from_u32(black_box(9)).is_none())?;
    let mut descriptor = MsgDescHot::new();
    descriptor.flags = FrameFlags::DATA | FrameFlags::EOS;
    let line = black_box(descriptor.by_words()).to_line();
    let same = MsgDescHot::from_line(line);
    ensure(same == descriptor && same.is_inline() && same.flags.contains(FrameFlags::EOS))
}

fn region() -> Result<(), Failed> {
    static MEMORY: Memory<256> = Memory::new();
    let region = MEMORY.take().ok_or(Failed::here())?;
    ensure(MEMORY.take().is_none())?;
    let () = region.keeper();
    // In the middle, at the end, behind it, and nowhere.
    for offset in [64, 192, 248, 256, usize::MAX] {
        let offset = black_box(offset);
        let (word, long, line) = (At::<u32>::new(offset), At::<u64>::new(offset), At::<Line>::new(offset));
        words(&region.u32(word), 1)?;
        words(&region.fix_u32(word), 2)?;
        words(&region.u64(long), 1)?;
        words(&region.fix_u64(long), 2)?;
        words(&ByOffset::<_, u32>::new(region, word, 1), 3)?;
        words(&ByOffset::<_, u64>::new(region, long, 1), 3)?;
        region.store_line(line, region.load_line(line));
        lines(&region.fix_lines(line, black_box(1)));
        lines(&ByOffset::<_, Line>::new(region, line, black_box(1)));
        let span = Span { offset, len: black_box(64) };
        let mut copied = [0; 100];
        region.copy_in(span, &copied);
        region.copy_out(span, &mut copied);
        region.clear(span);
        ensure(region.bytes(span).is_some() == (offset <= region.size() - 64))?;
    }
    region.fence();
    Ok(())
}

/// Words outside the region keep nothing, so only that nothing happens is certain.
fn words<T: Copy + PartialEq + From<u8>>(word: &impl Word<T>, number: u8) -> Result<(), Failed> {
    let one = T::from(black_box(number));
    word.store(one, Ordering::Release);
    let seen = word.load(Ordering::Acquire);
    let _ = word.fetch_add(one, Ordering::AcqRel);
    let _ = word.compare_exchange(one, one, Ordering::AcqRel, Ordering::Acquire);
    ensure(seen == one || seen != one)
}

fn lines(lines: &impl Lines) {
    let number = black_box(u64::MAX) & lines.mask();
    lines.store(number, lines.load(number));
}

fn ring() -> Result<(), Failed> {
    static MEMORY: Memory<1024> = Memory::new();
    let region = MEMORY.take().ok_or(Failed::here())?;
    ensure(DescRing::create(region, black_box(0), black_box(3)).is_err())?;
    ensure(DescRing::create(region, black_box(960), black_box(4)).is_err())?;
    let ring = DescRing::create(region, black_box(0), black_box(4)).map_err(failed)?;
    let (mut producer, _) = ring.split();
    let ring = DescRing::attach(region, black_box(0)).map_err(failed)?;
    let (_, mut consumer) = ring.split();
    push_and_pop(&mut producer, &mut consumer)?;
    // A producer that says that it is further than its ring is long.
    region.u64(DescRingHeader::VISIBLE_HEAD).store(black_box(100), Ordering::Release);
    ensure(matches!(consumer.ready(1), Err(PeerFault::Head { .. })))?;
    ensure(
        consumer.try_pop().is_err()
            && consumer.peek().is_err()
            && consumer.pop_batch(&mut [MsgDescHot::new()]).is_err(),
    )
}

fn push_and_pop(producer: &mut Producer<RawRegion>, consumer: &mut Consumer<RawRegion>) -> Result<(), Failed> {
    let descriptor = MsgDescHot::data(black_box(1));
    ensure(producer.capacity() == 4 && consumer.capacity() == 4)?;
    producer.try_push(&descriptor).map_err(failed)?;
    producer.write(&descriptor).map_err(failed)?;
    ensure(producer.publish())?;
    ensure(producer.push_batch(&[descriptor; 3]) == Ok(2))?;
    ensure(matches!(producer.try_push(&descriptor), Err(RingError::Full)))?;
    ensure(producer.free_places(1) == Ok(0))?;
    ensure(consumer.ready(2) == Ok(2))?;
    ensure(consumer.peek() == Ok(Some(descriptor)))?;
    consumer.advance();
    consumer.release();
    ensure(consumer.try_pop() == Ok(Some(descriptor)))?;
    let mut rest = [MsgDescHot::new(); 4];
    ensure(consumer.pop_batch(&mut rest) == Ok(2))?;
    ensure(consumer.try_pop() == Ok(None))
}

/// A session of two sides that poll. Each tour has its own.
macro_rules! session {
    () => {{
        static MEMORY: Memory<4096> = Memory::new();
        static A: Ledger<SLOTS> = Ledger::new();
        static B: Ledger<SLOTS> = Ledger::new();
        let region = MEMORY.take().ok_or(Failed::here())?;
        (region, Polled::new(region, &A), Polled::new(region, &B))
    }};
}

fn session() -> Result<(), Failed> {
    let (region, a, b) = session!();
    let config = black_box(CONFIG);
    ensure(matches!(Link::attach(b), Err(LinkError::Layout(LayoutError::InvalidMagic { .. }))))?;
    let mut a = Link::create(a, config).map_err(failed)?;
    let other = ShmSessionConfig { slot_size: 128, ..config };
    ensure(Link::attach_expecting(b, other).is_err())?;
    ensure(Session::peek(&region) == Ok(config))?;
    let (mut to_a, mut from_a, at_b) = Link::attach_expecting(b, config).map_err(failed)?.into_parts();
    ensure(matches!(Link::attach(b), Err(LinkError::Occupied)))?;
    ensure(at_b.role() == PeerRole::B && at_b.role().peer().id() == PeerId(0) && at_b.config() == config)?;
    ensure(a.session().role() == PeerRole::A && a.endpoint().region().size() == region.size())?;
    {
        let (to_b, from_b) = a.split();
        try_everything(to_b, &mut from_a)?;
        refuse(to_b)?;
        try_everything(&mut to_a, from_b)?;
    }
    let status = a.status();
    ensure(
        status.outgoing.is_empty()
            && status.incoming.len() <= u64::from(CONFIG.ring_capacity)
            && status.slots.unknown == 0,
    )?;
    // B leaves, and another takes its place.
    to_a.close();
    from_a.close();
    ensure(a.reset().is_ok())?;
    let b = Link::attach(b).map_err(failed)?;
    let (mut to_a, from_a, at_b) = b.into_parts();
    // A leaves, too; B resets by its parts.
    let (mut to_b, mut from_b) = a.into_split();
    to_b.close();
    from_b.close();
    let mut from_a = from_a;
    ensure(at_b.reset(&mut to_a, &mut from_a).is_ok())?;
    let mut b = Link::from_parts(to_a, from_a, at_b);
    let (to_a, from_a) = b.split();
    to_a.disarm();
    from_a.disarm();
    to_a.close();
    ensure(matches!(to_a.try_send(&MsgDescHot::new(), b""), Err(SendError::Closed)))?;
    // Whoever reads the header is told what is wrong with it.
    region.u32(SegmentHeader::VERSION).store(black_box(9), Ordering::Release);
    ensure(Session::peek(&region).is_err())
}

/// Every way to send and to receive that does not sleep, and each answer to "not now".
fn try_everything(tx: &mut Sender<Side>, rx: &mut Receiver<Side>) -> Result<(), Failed> {
    let descriptor = MsgDescHot::data(black_box(5));
    let bytes = black_box([3; 65]);
    let long = bytes.get(..tx.max_payload()).ok_or(Failed::here())?;
    ensure(tx.capacity() == 2)?;
    ensure(matches!(rx.try_recv(), Ok(None)) && matches!(rx.is_ready(), Ok(false)))?;
    ensure(rx.recv_inline().is_none() && rx.recv_ready().is_none())?;
    ensure(matches!(rx.poll_ready(), Ok(Step::Sleep(ticket)) if ticket.kind() == SleepKind::Word))?;
    tx.try_send(&descriptor, b"short")?;
    let mut loan = tx.try_loan(long.len())?;
    loan.fill(black_box(3));
    loan.truncate(black_box(40));
    ensure(!loan.is_empty() && loan.slot().generation > 0)?;
    tx.try_send_loan(&descriptor, loan).map_err(failed)?;
    ensure(matches!(tx.try_send(&descriptor, b""), Err(SendError::Full)))?;
    let loan = tx.try_loan(1)?;
    let unsent = tx.try_send_loan(&descriptor, loan).err().ok_or(Failed::here())?;
    drop(unsent.loan);
    match tx.poll_send(&descriptor, long)? {
        Step::Ready(()) => return Err(Failed::here()),
        Step::Sleep(ticket) => ensure(ticket.word().offset() > 0 && ticket.value() < u32::MAX)?,
    }
    ensure(matches!(tx.try_send(&descriptor, &bytes), Err(SendError::TooLarge { len: 65, max: 64 })))?;
    let message = rx.recv_inline().ok_or(Failed::here())?;
    ensure(message.payload() == b"short" && !message.is_empty())?;
    let message = rx.recv_ready().ok_or(Failed::here())?;
    let mut copied = [0; 64];
    ensure(message.copy_to(&mut copied) == 40 && copied.iter().filter(|byte| **byte == 3).count() == 40)?;
    let payload = message.into_payload();
    ensure(payload.len() == 40 && !payload.is_empty() && payload.slot().is_some() && payload.first() == Some(&3))?;
    drop(payload);
    tx.feed(&descriptor, b"")?;
    let mut loan = Some(tx.try_loan(20)?);
    tx.feed_loan(&descriptor, &mut loan)?;
    tx.flush();
    ensure(matches!(rx.is_ready(), Ok(true)) && matches!(rx.try_recv(), Ok(Some(_))))?;
    let step = rx.poll_recv().map_err(failed)?.map(|message| message.len());
    ensure(matches!(step, Step::Ready(20)))?;
    send_and_read_on(tx, rx)?;
    ensure(matches!(tx.poll_loan(20)?, Step::Ready(_)))
}

/// Bytes that are sent in place, copied because they are in flight already, in parts, and inside the descriptor.
fn send_and_read_on(tx: &mut Sender<Side>, rx: &mut Receiver<Side>) -> Result<(), Failed> {
    let descriptor = MsgDescHot::data(black_box(6));
    let mut loan = tx.try_loan(black_box(40))?;
    loan.fill(black_box(4));
    let kept = loan.freeze();
    ensure(kept.len() == 40 && !kept.is_empty() && kept.slot().generation > 0 && kept.first() == Some(&4))?;
    tx.try_send_frozen(&descriptor, &kept)?;
    let received = rx.try_recv().map_err(failed)?.ok_or(Failed::here())?;
    ensure(received.payload() == kept.as_ref() && received.payload().as_ptr() == kept.as_ptr())?;
    let part = kept.slice(black_box(3)..black_box(30)).ok_or(Failed::here())?;
    ensure(matches!(tx.poll_send_frozen(&descriptor, part)?, Step::Ready(())))?;
    drop(received);
    let copied = rx.try_recv().map_err(failed)?.ok_or(Failed::here())?;
    ensure(copied.len() == part.len() && !part.is_empty() && copied.payload().as_ptr() != kept.as_ptr())?;
    let short = kept.slice(black_box(0)..black_box(5)).ok_or(Failed::here())?;
    ensure(kept.slice(black_box(1)..black_box(usize::MAX)).is_none())?;
    let mut bytes = [0; 8];
    ensure(short.copy_to(&mut bytes) == 5 && bytes.last() == Some(&0))?;
    tx.feed_frozen(&descriptor, short)?;
    tx.feed_frozen(&descriptor, kept.all())?;
    tx.flush();
    drop(kept);
    ensure(matches!(rx.try_recv(), Ok(Some(inline)) if inline.payload() == [4; 5]))?;
    ensure(matches!(rx.try_recv(), Ok(Some(lent)) if lent.payload() == [4; 40]))
}

/// What is refused: a loan of another session, and its bytes.
fn refuse(tx: &mut Sender<Side>) -> Result<(), Failed> {
    let (_, other, _) = session!();
    let mut other = Link::create(other, black_box(CONFIG)).map_err(failed)?;
    let foreign = other.split().0.try_loan(8)?;
    let refused = tx.try_send_loan(&MsgDescHot::new(), foreign);
    ensure(matches!(refused, Err(unsent) if unsent.error == SendError::ForeignLoan))?;
    let foreign = other.split().0.try_loan(8)?.freeze();
    ensure(tx.try_send_frozen(&MsgDescHot::new(), &foreign) == Err(SendError::ForeignLoan))
}

/// The slab below the loans, as an adapter uses it, and what it says of a peer that lies.
fn slots() -> Result<(), Failed> {
    let (region, a, b) = session!();
    let mut at_a = Link::create(a, black_box(CONFIG)).map_err(failed)?;
    let at_b = Link::attach(b).map_err(failed)?;
    let (tx, _) = at_a.split();
    let pool: DataSegment = *tx.pool();
    let side = *tx.endpoint();
    ensure(pool.slot_size() == 64 && pool.slot_count() == 4 && pool.max_payload() == 64)?;
    // SAFETY: used only for the slots that are taken here, which no guard has.
    let rights = unsafe { SlotRights::without_guards() };
    let (slot, span) = pool.allocate(&side, black_box(10)).map_err(failed)?.ok_or(Failed::here())?;
    ensure(span.len == 10 && side.ledger().held() == 1)?;
    pool.send(&side, slot, rights).map_err(failed)?;
    let mut descriptor = MsgDescHot::data(1);
    (descriptor.payload_slot, descriptor.payload_generation) = (slot.reference, slot.generation);
    descriptor.payload_len = black_box(65);
    ensure(pool.accept(&b, &descriptor).is_err())?;
    descriptor.payload_len = black_box(10);
    pool.accept(&b, &descriptor).map_err(failed)?;
    ensure(pool.span(&descriptor).len == 10)?;
    ensure(matches!(pool.accept(&b, &descriptor), Err(PeerFault::AlreadyHeld { .. })))?;
    pool.free(&b, slot, SlotState::InFlight, rights).map_err(failed)?;
    let (lent, _) = pool.allocate(&side, black_box(10)).map_err(failed)?.ok_or(Failed::here())?;
    ensure(pool.lend(&side, lent, rights) == Ok(true) && pool.lend(&side, lent, rights) == Ok(false))?;
    (descriptor.payload_slot, descriptor.payload_generation) = (lent.reference, lent.generation);
    pool.accept(&b, &descriptor).map_err(failed)?;
    pool.free(&side, lent, SlotState::Allocated, rights).map_err(failed)?;
    ensure(pool.slot_status(&region).in_flight == 1)?;
    pool.free(&b, lent, SlotState::InFlight, rights).map_err(failed)?;
    let nowhere = Slot { reference: black_box(u32::MAX), generation: 0 };
    ensure(pool.free(&b, nowhere, SlotState::InFlight, rights).is_err())?;
    pool.wake_waiters(&side);
    ensure(pool.slot_status(&region).free == 4)?;
    // What a ledger is made of, and what an endpoint may leave to the provided methods.
    let entries = LedgerIn::over([LedgerEntry::new()]);
    ensure(LedgerEntry::new().held_generation().is_none() && entries.ledger().held() == 0)?;
    ensure(!side.is_registered() && !side.has_heavy_barrier() && !side.heavy_barrier())?;
    side.wake(At::new(black_box(0)));
    side.ring(PeerId(1), Half::Sender);
    ensure(!side.ledger().peer_has_died())?;
    // The peer writes rubbish over the metadata and the free list's head; B sees a fault, and its other
    // half closes.
    let offsets = SegmentOffsets::calculate(&CONFIG).map_err(failed)?;
    for offset in (offsets.data_header..offsets.slot_data).step_by(8) {
        region.u64(At::new(offset)).store(black_box(0xdead_beef_dead_beef), Ordering::Release);
    }
    let (mut to_a, mut from_a) = at_b.into_split();
    ensure(matches!(to_a.try_loan(20), Err(SendError::PeerFault(_))))?;
    ensure(from_a.try_recv().is_err_and(|error| error == RecvError::Closed))
}

fn allocator() -> Result<(), Failed> {
    let (_, a, b) = session!();
    let mut link = Link::create(a, black_box(CONFIG)).map_err(failed)?;
    let allocator = link.allocator();
    ensure(allocator.max_allocation_size() == 48)?;
    let layout = Layout::from_size_align(black_box(24), black_box(8)).map_err(failed)?;
    let larger = Layout::from_size_align(black_box(32), black_box(8)).map_err(failed)?;
    let aligned = Layout::from_size_align(black_box(8), black_box(32)).map_err(failed)?;
    let too_large = Layout::from_size_align(black_box(1000), black_box(8)).map_err(failed)?;
    let empty = Layout::from_size_align(black_box(0), black_box(8)).map_err(failed)?;
    ensure(allocator.allocate(too_large).is_err())?;
    let nothing = allocator.allocate(empty).map_err(failed)?;
    let first = allocator.allocate_zeroed(layout).map_err(failed)?;
    // SAFETY: `first` was allocated here with `layout`, and is `larger` from here on.
    let first = unsafe { allocator.grow(first.cast(), layout, larger) }.map_err(failed)?;
    // SAFETY: as above, and back again.
    let first = unsafe { allocator.shrink(first.cast(), larger, layout) }.map_err(failed)?;
    // SAFETY: as above; a higher alignment and fewer bytes.
    let first = unsafe { allocator.shrink(first.cast(), layout, aligned) }.map_err(failed)?;
    ensure(first.cast::<u8>().as_ptr().addr().is_multiple_of(32))?;
    // SAFETY: allocated here with this layout and not used again.
    unsafe { allocator.deallocate(first.cast(), aligned) };
    // SAFETY: as above; but it has no bytes, so nothing comes of it.
    ensure(unsafe { allocator.loan_of(nothing.cast(), 0) }.is_none())?;
    // SAFETY: as above.
    unsafe { allocator.deallocate(nothing.cast(), empty) };
    send_an_allocation(&mut link, b)?;
    let slots = link.status().slots;
    ensure(slots.free == slots.total)
}

/// An allocation that goes to the peer where it lies.
fn send_an_allocation(link: &mut Link<Side>, b: Side) -> Result<(), Failed> {
    let mut other = Link::attach(b).map_err(failed)?;
    let layout = Layout::from_size_align(black_box(24), black_box(8)).map_err(failed)?;
    let (tx, _) = link.split();
    let allocator = tx.allocator();
    let allocation = allocator.allocate_zeroed(layout).map_err(failed)?;
    // SAFETY: allocated here, zeroed, and not used again.
    let loan = unsafe { allocator.loan_of(allocation.cast(), layout.size()) }.ok_or(Failed::here())?;
    tx.try_send_loan(&MsgDescHot::new(), loan).map_err(failed)?;
    let received = other.split().1.try_recv().map_err(failed)?.ok_or(Failed::here())?;
    ensure(received.payload() == [0; 24] && received.descriptor().payload_offset == 16)
}

/// What went wrong has no place to be printed; where it did is the exit code.
#[track_caller]
pub fn failed<T>(_: T) -> Failed {
    Failed::here()
}
