//! A plugin: it attaches with a number that the host has given out, and has one link, to the host.

use core::sync::atomic::Ordering;

use super::link::HubLink;
use super::places::{HOST, Places};
use super::pool::HubAllocator;
use super::{HubError, check_room};
use crate::endpoint::{Endpoint, PeerId};
use crate::layout::{
    At, DescRingHeader, HUB_GROWABLE_VERSION, HUB_MAGIC, HUB_OWN_CLASSES_VERSION, HUB_PROTOCOL_VERSION,
    HUB_SIZE_CLASSES, HubConfig, HubHeader, HubLayoutError, HubOffsets, NUM_SIZE_CLASSES, PEER_FLAG_ACTIVE,
    PEER_FLAG_DEAD, PEER_FLAG_RESERVED, PeerEntry, PeerState, SizeClass, SizeClassHeader,
};
use crate::region::{Region, Word};

/// A plugin's way into a hub.
#[derive(Debug)]
pub struct HubPeer;

impl HubPeer {
    /// Reads the shape of a hub that a host created, for those who must provide a ledger before they attach.
    ///
    /// # Errors
    /// No hub, another version, a shape that the layout cannot carry, a region that is too small for it as it was when it was
    /// fresh, or places that contradict each other.
    pub fn peek<R: Region>(region: &R) -> Result<HubConfig, HubLayoutError> {
        let (required, available) = (size_of::<HubHeader>(), region.size());
        if available < required {
            return Err(HubLayoutError::HubTooSmall { required, available });
        }
        let magic = region.u64(HubHeader::MAGIC).load(Ordering::Acquire).to_ne_bytes();
        let version = identify(magic, region.u32(HubHeader::VERSION).load(Ordering::Relaxed))?;
        let config = shape(region, version)?;
        let required = HubOffsets::calculate(&config)?.end;
        if required > available {
            return Err(HubLayoutError::HubTooSmall { required, available });
        }
        check_copies(region, &config)?;
        Ok(config)
    }

    /// Attaches to a hub with the number that its host has given this plugin.
    ///
    /// # Errors
    /// [`HubError`]: what [`peek`](Self::peek) refuses, a ledger that is too small or in use, a number that no plugin can
    /// have, that was not given out, or that is another plugin's.
    pub fn attach<E: Endpoint>(endpoint: E, id: PeerId) -> Result<HubLink<E>, HubError> {
        let config = Self::peek(endpoint.region())?;
        check_room(&endpoint, &config)?;
        endpoint.ledger().lanes.forget_extents();
        let pool = HubAllocator::new(Places::new(&config, id));
        take_place(endpoint.region(), &pool.places, id)?;
        let with_others = pool.places.ring_to_host(id).word(DescRingHeader::WAITS_WITH_OTHERS);
        let with_others = endpoint.region().u32(with_others).load(Ordering::Relaxed) == 1;
        endpoint.ledger().fault.clear();
        Ok(HubLink::of_plugin(&endpoint, pool, id, with_others))
    }
}

/// Whether these are the first bytes of a hub, and if so of which of the versions that are known.
fn identify(seen: [u8; 8], found: u32) -> Result<u32, HubLayoutError> {
    if seen != HUB_MAGIC {
        return Err(HubLayoutError::InvalidMagic { seen });
    }
    let known = [HUB_PROTOCOL_VERSION, HUB_OWN_CLASSES_VERSION, HUB_GROWABLE_VERSION];
    let version = known.into_iter().find(|known| known >> 16 == found >> 16);
    version.ok_or(HubLayoutError::IncompatibleVersion { found })
}

impl HubHeader {
    /// Whether a snapshot is one of a hub's header.
    ///
    /// # Errors
    /// Another magic, another version.
    pub fn identify(&self) -> Result<(), HubLayoutError> {
        identify(self.magic, self.version).map(drop)
    }
}

impl HubPeer {
    /// Says that nothing of a plugin is left that could touch the hub: its halves are closed, and its guards are gone. The
    /// host may then [reap](super::HubHost::reap) while the plugin's process still runs. To be called by that plugin, as
    /// the last thing.
    ///
    /// Whoever calls it wakes the host as well.
    pub fn say_gone<R: Region>(region: &R, pool: &HubAllocator) {
        let flags = pool.places.entry(pool.owner(), PeerEntry::FLAGS);
        // Release pairs with the Acquire in `HubHost::has_gone`.
        region.u32(flags).store(PEER_FLAG_DEAD, Ordering::Release);
    }
}

/// The shape that the header says, and but in version 1 those of the classes.
fn shape<R: Region>(region: &R, version: u32) -> Result<HubConfig, HubLayoutError> {
    let [max_peers, _]: [u16; 2] =
        zerocopy::transmute!(region.u32(HubHeader::MAX_AND_ACTIVE_PEERS).load(Ordering::Relaxed));
    let ring_capacity = region.u32(HubHeader::RING_CAPACITY).load(Ordering::Relaxed);
    let mut config = HubConfig { max_peers, ring_capacity, classes: HUB_SIZE_CLASSES, max_extents: 1 };
    if version == HUB_PROTOCOL_VERSION {
        return Ok(config);
    }
    // With the default classes, to know that the number of peers and the capacity can be.
    config.validate()?;
    let headers = HubOffsets::size_classes_of(max_peers, ring_capacity);
    let end = headers.and_then(|at| at.checked_add(NUM_SIZE_CLASSES * size_of::<SizeClassHeader>()));
    let (Some(headers), Some(required)) = (headers, end) else { return Err(HubLayoutError::TooLarge) };
    if required > region.size() {
        return Err(HubLayoutError::HubTooSmall { required, available: region.size() });
    }
    for (number, class) in config.classes.iter_mut().enumerate() {
        let header = headers + number * size_of::<SizeClassHeader>();
        let read = |field: At<u32>| region.u32(field.within(header)).load(Ordering::Relaxed);
        let slot_count = match version {
            HUB_GROWABLE_VERSION => slots_per_extent(read(SizeClassHeader::SHIFT_AND_EXTENT_COUNT)),
            _ => read(SizeClassHeader::TOTAL_SLOTS),
        };
        *class = SizeClass { slot_size: read(SizeClassHeader::SLOT_SIZE), slot_count };
    }
    if version == HUB_GROWABLE_VERSION {
        let seen = region.u32(HubHeader::MAX_EXTENTS).load(Ordering::Relaxed);
        config.max_extents = u8::try_from(seen).map_err(|_| HubLayoutError::MaxExtents { seen })?;
    }
    Ok(config)
}

/// What does not change when a class grows; 0 if that cannot be.
fn slots_per_extent(shift_and_extents: u32) -> u32 {
    let [shift, ..]: [u8; 4] = zerocopy::transmute!(shift_and_extents);
    1_u32.checked_shl(shift.into()).unwrap_or(0)
}

/// Whether the places that repeat the shape agree with it.
fn check_copies<R: Region>(region: &R, config: &HubConfig) -> Result<(), HubLayoutError> {
    let places = Places::new(config, HOST);
    let same = |field, expected: u64, seen: u64| match expected == seen {
        true => Ok(()),
        false => Err(HubLayoutError::Inconsistent { field, expected, seen }),
    };
    let u32_at = |at: At<u32>| u64::from(region.u32(at).load(Ordering::Relaxed));
    let u64_at = |at: At<u64>| region.u64(at).load(Ordering::Relaxed);
    for id in (0..config.max_peers).map(PeerId) {
        for ring in [places.ring_to_host(id), places.ring_to_peer(id)] {
            let seen = u32_at(ring.word(DescRingHeader::CAPACITY));
            same("capacity of a ring", u64::from(config.ring_capacity), seen)?;
        }
    }
    for class in places.classes() {
        same("slot size of a class", u64::from(class.slot_size()), u32_at(class.word(SizeClassHeader::SLOT_SIZE)))?;
        if config.max_extents == 1 {
            same("slots of a class", u64::from(class.count()), u32_at(class.word(SizeClassHeader::TOTAL_SLOTS)))?;
        }
        same("extent of a class", class.extent(0).offset as u64, u64_at(class.word(SizeClassHeader::EXTENTS)))?;
    }
    Ok(())
}

/// Takes the place of a plugin, if it was reserved for one and nobody has taken it yet.
fn take_place<R: Region>(region: &R, places: &Places, id: PeerId) -> Result<(), HubError> {
    let old_host = region.u32(HubHeader::HOST_STATE).load(Ordering::Acquire) == PeerState::Unknown as u32;
    let last = places.max_peers() - 1;
    if id.0 > last || (id == HOST && !old_host) {
        return Err(HubError::NoSuchPeer { id, last });
    }
    let flags = region.u32(places.entry(id, PeerEntry::FLAGS));
    let seen = flags.load(Ordering::Relaxed);
    if seen & (PEER_FLAG_ACTIVE | PEER_FLAG_DEAD) != 0 {
        return Err(HubError::Taken { id });
    }
    let from = if old_host { PeerState::Unknown } else { PeerState::Vacant };
    let state = region.u32(places.entry(id, PeerEntry::STATE));
    if seen & PEER_FLAG_RESERVED == 0 {
        return Err(HubError::NotReserved { id });
    }
    // Acquire pairs with the Release in `HubHost::reserve`; one of two newcomers wins.
    let taken = state.compare_exchange(from as u32, PeerState::Attached as u32, Ordering::Acquire, Ordering::Relaxed);
    taken.map_err(|_| HubError::Taken { id })?;
    // What version 1.0 says when it is there. Only this plugin and, after its death, the host write it.
    flags.store(PEER_FLAG_ACTIVE, Ordering::Release);
    Ok(())
}
