//! Every public operation of a hub, so that the linker sees them all.

use core::hint::black_box;
use core::sync::atomic::Ordering;

use rapace_shm_core::endpoint::{Endpoint, Half, PeerId, Polled};
use rapace_shm_core::hub::{
    HOST, HasLinkMarks, HostEnd, HostLedger, HostLedgerIn, HubAllocator, HubError, HubHost, HubLink, HubPeer,
    LinkMarks, Waits,
};
use rapace_shm_core::layout::{
    At, HubConfig, HubHeader, HubLayoutError, HubOffsets, MsgDescHot, PeerState, SizeClass, SlotState, Span,
    calculate_hub_size, decode_global_index, decode_slot_ref, encode_global_index, encode_slot_ref,
};
use rapace_shm_core::ledger::{HasLedger, Ledger};
use rapace_shm_core::link::SendError;
use rapace_shm_core::region::{Memory, RawRegion, Region, SlotRights};
use rapace_shm_core::slots::{Slot, SlotPool};
use rapace_shm_core::wake::Step;

use crate::tour::failed;
use crate::{Failed, ensure};

const SLOTS: usize = 20;
const SIZES: [u32; 5] = [64, 128, 256, 512, 1024];

type HostSide = Polled<RawRegion, &'static HostLedger<SLOTS>>;
type PluginSide = Polled<RawRegion, &'static Ledger<SLOTS>>;

fn config() -> HubConfig {
    let classes = SIZES.map(|slot_size| SizeClass { slot_size, slot_count: 4 });
    black_box(HubConfig { max_peers: 3, ring_capacity: 2, classes, max_extents: 1 })
}

/// A hub and its plugins' sides. Each tour has its own.
macro_rules! hub {
    () => {{
        static MEMORY: Memory<16_384> = Memory::new();
        static HOST_LEDGER: HostLedger<SLOTS> = HostLedger::new();
        static FIRST: Ledger<SLOTS> = Ledger::new();
        static SECOND: Ledger<SLOTS> = Ledger::new();
        let region = MEMORY.take().ok_or(Failed::here())?;
        let host = HubHost::create(Polled::new(region, &HOST_LEDGER), config()).map_err(failed)?;
        (region, host, [Polled::new(region, &FIRST), Polled::new(region, &SECOND)])
    }};
}

/// Calls everything once, with arguments that the optimiser cannot see through.
pub fn every_operation() -> Result<(), Failed> {
    layout()?;
    members()?;
    slots()?;
    growth()?;
    rubbish()
}

fn layout() -> Result<(), Failed> {
    let config = config();
    let offsets = HubOffsets::calculate(&config).map_err(failed)?;
    ensure(calculate_hub_size(&config) == Ok(offsets.whole().len) && config.slots() == 20)?;
    for wrong in [
        HubConfig { max_peers: 33, ..config },
        HubConfig { ring_capacity: 3, ..config },
        HubConfig { max_extents: 17, ..config },
        HubConfig { classes: [SizeClass { slot_size: 1 << 31, slot_count: 1 << 28 }; 5], ..config },
    ] {
        ensure(calculate_hub_size(&black_box(wrong)).is_err())?;
    }
    ensure(HubConfig::default().validate().is_ok())?;
    ensure(decode_slot_ref(encode_slot_ref(black_box(9), black_box(u32::MAX))).0 == 1)?;
    ensure(decode_global_index(encode_global_index(black_box(2), 1, black_box(40)), black_box(40)).1 == 1)?;
    let (marks, entries) = (LinkMarks::new(), HostLedgerIn::over([]));
    let _ = (black_box(&marks), entries.link_marks());
    ensure(entries.ledger().held() == 0)
}

fn members() -> Result<(), Failed> {
    let (region, mut host, [first, second]) = hub!();
    ensure(HubPeer::peek(&region) == Ok(config()))?;
    ensure(matches!(HubPeer::attach(first, PeerId(1)), Err(HubError::NotReserved { .. })))?;
    ensure(matches!(HubPeer::attach(first, black_box(HOST)), Err(HubError::NoSuchPeer { .. })))?;
    let mut links = [host.reserve(Waits::Together).map_err(failed)?, host.reserve(Waits::Together).map_err(failed)?];
    ensure(matches!(host.reserve(Waits::Alone), Err(HubError::Full { plugins: 2 })))?;
    let [one, two] = &mut links;
    ensure(host.peer_state(one.id()) == Some(PeerState::Vacant) && host.peer_count() == 2)?;
    let mut plugin = HubPeer::attach(first, one.id()).map_err(failed)?;
    let other = HubPeer::attach(second, two.id()).map_err(failed)?;
    ensure(matches!(HubPeer::attach(second, two.id()), Err(HubError::Taken { .. })))?;
    ends(one.endpoint())?;
    host.share_among(black_box(2));
    host.set_quota(black_box(0), black_box(3)).map_err(failed)?;
    ensure(host.set_max_size(black_box(0)) == Err(HubError::NotGrowable))?;
    ensure(host.set_quota(black_box(5), 3).is_err() && host.settle() == 0)?;
    talk(&mut plugin, &mut host, &mut links)?;
    // The other one dies.
    let (id, sender, receiver) = other.into_parts();
    core::mem::forget(HubLink::from_parts(id, sender, receiver));
    let [one, two] = links;
    two.peer_died();
    let reaped = host.reap(two).map_err(failed)?;
    ensure(reaped.announced == 0 && reaped.in_doubt == 0)?;
    plugin.close();
    host.reap(one).map(drop).map_err(failed)?;
    let status = host.slot_status();
    ensure(status.free() == status.total() && status.free_list_len() == 20)?;
    ensure(status.allocated() + status.in_flight() + status.unknown() == 0)
}

fn ends(end: &HostEnd<HostSide>) -> Result<(), Failed> {
    end.wake(At::new(black_box(0)));
    end.ring(end.peer(), Half::Sender);
    let _ = (end.sleep_kind(), end.host().link_marks());
    ensure(end.back(Span { offset: 0, len: black_box(64) }) && !end.extend(Span { offset: 64, len: usize::MAX }))?;
    ensure(!end.is_registered() && !end.has_heavy_barrier() && !end.heavy_barrier())
}

fn talk(
    plugin: &mut HubLink<PluginSide>,
    host: &mut HubHost<HostSide>,
    links: &mut [HubLink<HostEnd<HostSide>>],
) -> Result<(), Failed> {
    ensure(matches!(host.poll_any(links), Step::Sleep(_)))?;
    host.disarm();
    let bytes = black_box([3; 1025]);
    for len in [black_box(0), 17, 100, 200, 500, 1024] {
        let (tx, rx) = plugin.split();
        let payload = bytes.get(..len).ok_or(Failed::here())?;
        tx.try_send(&MsgDescHot::data(1), payload)?;
        let (from, message) = host.try_any(links).ok_or(Failed::here())?;
        ensure(from == PeerId(1) && message.map_err(failed)?.payload() == payload)?;
        let link = links.first_mut().ok_or(Failed::here())?;
        link.split().0.try_send(&MsgDescHot::data(2), payload)?;
        ensure(rx.try_recv().map_err(failed)?.ok_or(Failed::here())?.payload() == payload)?;
    }
    let (tx, _) = plugin.split();
    ensure(matches!(tx.try_send(&MsgDescHot::data(1), &bytes), Err(SendError::TooLarge { .. })))?;
    let loans = [tx.try_loan(1000)?, tx.try_loan(1000)?];
    ensure(matches!(tx.poll_loan(1000), Ok(Step::Sleep(_))))?;
    drop(loans);
    ensure(matches!(tx.poll_loan(1000), Ok(Step::Ready(_))))
}

fn slots() -> Result<(), Failed> {
    let (_, mut host, [first, _]) = hub!();
    let link = host.reserve(Waits::Alone).map_err(failed)?;
    let mut plugin = HubPeer::attach(first, link.id()).map_err(failed)?;
    let pool: HubAllocator = *plugin.split().0.pool();
    ensure(pool.owner() == PeerId(1) && pool.config() == config() && pool.max_payload() == 1024)?;
    ensure(pool.find_class_for_size(black_box(65)) == Some(1))?;
    let (slot, span) = pool.allocate(&first, black_box(65)).map_err(failed)?.ok_or(Failed::here())?;
    ensure(span.len == 65 && pool.owned_by(&first, PeerId(1)) == 1)?;
    // SAFETY: used only for slots that were taken from the pool right here, and that no guard has.
    let rights = unsafe { SlotRights::without_guards() };
    pool.send(&first, slot, rights).map_err(failed)?;
    let mut descriptor = MsgDescHot::data(1);
    (descriptor.payload_slot, descriptor.payload_generation) = (slot.reference, slot.generation);
    descriptor.payload_len = black_box(129);
    ensure(pool.accept(&first, &descriptor).is_err())?;
    descriptor.payload_len = black_box(65);
    pool.accept(&first, &descriptor).map_err(failed)?;
    ensure(pool.span(&descriptor).len == 65)?;
    pool.free(&first, slot, SlotState::InFlight, rights).map_err(failed)?;
    for reference in [u32::MAX, 4, 1 << 31 | 7] {
        let nowhere = Slot { reference: black_box(reference), generation: 0 };
        ensure(pool.free(&first, nowhere, SlotState::InFlight, rights).is_err())?;
        ensure(pool.send(&first, nowhere, rights).is_err())?;
    }
    pool.wake_waiters(&first);
    ensure(host.allocator().slot_status(host.endpoint()).free() == 20)
}

/// Two extents of each class in memory that is all there from the beginning; then rubbish about them.
fn growth() -> Result<(), Failed> {
    static MEMORY: Memory<32_768> = Memory::new();
    static HOST_LEDGER: HostLedger<{ 2 * SLOTS }> = HostLedger::new();
    static PLUGIN: Ledger<{ 2 * SLOTS }> = Ledger::new();
    let region = MEMORY.take().ok_or(Failed::here())?;
    let config = HubConfig { max_extents: black_box(2), ..config() };
    ensure(HubOffsets::calculate(&config).map_err(failed)?.reach <= region.size())?;
    let mut host = HubHost::create(Polled::new(region, &HOST_LEDGER), config).map_err(failed)?;
    let mut links = [host.reserve(Waits::Together).map_err(failed)?];
    let mut plugin = HubPeer::attach(Polled::new(region, &PLUGIN), PeerId(1)).map_err(failed)?;
    let (tx, _) = plugin.split();
    let [mut a, b, c, d, e] = [(); 5].map(|()| tx.try_loan(black_box(1000)));
    ensure(a.is_ok() && b.is_ok() && c.is_ok() && d.is_ok() && host.slot_status().total() == 24)?;
    a = e;
    tx.try_send_loan(&MsgDescHot::data(1), a?).map_err(|unsent| failed(unsent.error))?;
    ensure(host.try_any(&mut links).is_some_and(|(_, message)| message.is_ok()))?;
    drop((b, c, d));
    host.set_max_size(black_box(1)).map_err(failed)?;
    ensure(host.slot_status().free() == 24)?;
    region.u64(HubHeader::GROWN).store(black_box(u64::MAX), Ordering::Release);
    ensure([20, 1000].map(|len| plugin.split().0.try_loan(black_box(len)).is_ok()) == [true, true])?;
    let [link] = links;
    ensure(host.slot_status().total() == 20 && host.reap(link).is_err())
}

/// Rubbish everywhere: every operation ends with a fault or an answer.
fn rubbish() -> Result<(), Failed> {
    let (region, mut host, [first, second]) = hub!();
    let mut links = [host.reserve(Waits::Together).map_err(failed)?, host.reserve(Waits::Together).map_err(failed)?];
    let mut plugin = HubPeer::attach(first, PeerId(1)).map_err(failed)?;
    let size = HubOffsets::calculate(&config()).map_err(failed)?.end;
    for offset in (0..size).step_by(8) {
        region.u64(At::new(offset)).store(black_box(0xdead_beef_dead_beef), Ordering::Release);
    }
    ensure(matches!(HubPeer::peek(&region), Err(HubLayoutError::InvalidMagic { .. })))?;
    region.u64(HubHeader::MAGIC).store(u64::from_ne_bytes(*b"RAPAHUB\0"), Ordering::Release);
    ensure(HubPeer::attach(second, PeerId(2)).is_err())?;
    ensure(plugin.split().0.try_loan(20).is_err())?;
    ensure(plugin.split().1.try_recv().is_err())?;
    ensure(matches!(host.try_any(&mut links), Some((_, Err(_)))))?;
    let [one, two] = links;
    let _ = (host.reap(one).is_ok(), host.reap(two).is_ok(), host.settle(), host.slot_status());
    Ok(())
}
