//! The wait protocol: how a side says that it sleeps, and how the other one learns that it must wake it.
//!
//! Every cause of waiting (data, space, slots; per direction) has a *sequence* word, which a signal bumps, and a
//! *sleeper* word, in which the waiting side says what it is doing:
//!
//! | sleeper | meaning | what a signal does |
//! |---|---|---|
//! | 0 | unknown: a peer of version 1.0, or nobody yet | bump, wake, ring: always |
//! | 1 | awake, will look again behind a heavy barrier before it sleeps | nothing: no call, no write, no fence |
//! | 4 | awake, will look again behind a plain fence before it sleeps | fence, look once more |
//! | 2 | asleep on the sequence word | bump, wake |
//! | 3 | asleep on its doorbell | ring |
//!
//! Publishing and then looking at the sleeper word, against marking it and then looking for data, is Dekker's
//! pattern: each side needs a store-load barrier between its two steps.
//!
//! ```text
//!   the side that sleeps              the side that signals
//!   v = sequence
//!   sleeper = 2                       publish
//!   heavy barrier                     light barrier
//!   look again                        look at sleeper: 2?
//!   sleep while sequence == v         bump sequence, wake
//! ```
//!
//! Either the sleeper's second look sees what was published, or the signaller sees the mark. The value slept on is
//! read before the mark: read after it, a bump in between would be part of it and the wake-up lost.
//!
//! The barrier is asymmetric where the platform can do that: the heavy side makes all registered processes execute
//! one (`membarrier`), and the light side, which runs once per message, only keeps the compiler from reordering.
//! Otherwise both sides are sequentially consistent fences; loom checks that form.

use core::sync::atomic::Ordering;

use crate::atomic::compiler_fence;
use crate::endpoint::{Endpoint, Half, PeerId, SleepKind};
use crate::layout::At;
use crate::region::{Region, Word};

/// Sleeper: nothing is known of that side; it must be signalled always.
pub const UNKNOWN: u32 = 0;
/// Sleeper: awake; looks again behind a heavy barrier before it sleeps.
pub const AWAKE: u32 = 1;
/// Sleeper: asleep on the sequence word.
pub const ASLEEP: u32 = 2;
/// Sleeper: asleep on its doorbell.
pub const ASLEEP_ON_DOORBELL: u32 = 3;
/// Sleeper: awake; looks again behind a plain fence before it sleeps.
pub const AWAKE_FENCED: u32 = 4;

/// Who signals at a [`WaitPoint`], and so who may clear the sleeper's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signallers {
    /// One peer. It takes the mark, so that only the first of many signals pays for the wake-up; if it dies in between,
    /// the sleeper is told of its death.
    One,
    /// Many. Nobody takes the mark: one that is stopped between taking and waking would strand the sleeper, which hears
    /// from the others only if they still see the mark. The sleeper clears it.
    Many,
    /// Many, and so many sleepers that a word has a bit for each that must be looked at (that is not awake, or relies on a
    /// fence); the mark is as with [`Many`](Self::Many).
    Listed {
        /// The word with the bits.
        list: At<u64>,
        /// The sleeper's bit in it.
        bit: u64,
    },
}

/// One cause of waiting, of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitPoint {
    /// Bumped by a signal.
    pub sequence: At<u32>,
    /// Bumped instead while nothing is known of the waiter: what one of version 1.0 sleeps on. Mostly the same word.
    pub old: At<u32>,
    /// What the waiting side is doing.
    pub sleeper: At<u32>,
    /// Whose doorbell a signal rings.
    pub waiter: PeerId,
    /// Which of the waiter's halves that is.
    pub half: Half,
    /// Who signals here.
    pub by: Signallers,
}

impl WaitPoint {
    /// A point with one signaller and the sequence word that version 1.0 uses for it.
    #[inline(always)]
    pub(crate) const fn new(sequence: At<u32>, sleeper: At<u32>, waiter: PeerId, half: Half) -> Self {
        Self { sequence, old: sequence, sleeper, waiter, half, by: Signallers::One }
    }
}

/// Permission to sleep: until the word no longer has the value, or until the doorbell rings.
///
/// The holder must look again afterwards, whatever woke it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a ticket says what to sleep on; without sleeping on it this is a busy loop"]
pub struct Ticket {
    word: At<u32>,
    value: u32,
    kind: SleepKind,
    half: Half,
}

impl Ticket {
    /// The word to sleep on.
    #[must_use]
    pub const fn word(&self) -> At<u32> {
        self.word
    }

    /// The value that the word had before the last look: sleep only while it has it.
    #[must_use]
    pub const fn value(&self) -> u32 {
        self.value
    }

    /// Whose doorbell to sleep on.
    #[must_use]
    pub const fn half(&self) -> Half {
        self.half
    }

    /// Whether to sleep on the word or on the doorbell; peers were told which.
    #[must_use]
    pub const fn kind(&self) -> SleepKind {
        self.kind
    }
}

/// What one step of sending or receiving came to.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Step<T> {
    /// It is done.
    Ready(T),
    /// There is nothing to do until the ticket's word changes (or the doorbell rings).
    Sleep(Ticket),
}

impl<T> Step<T> {
    /// Turns what is ready into something else.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Step<U> {
        match self {
            Self::Ready(value) => Step::Ready(f(value)),
            Self::Sleep(ticket) => Step::Sleep(ticket),
        }
    }
}

/// The waiting side of a [`WaitPoint`].
#[derive(Debug)]
pub(crate) struct Waiter {
    point: WaitPoint,
    marked: bool,
}

impl Waiter {
    /// Says "awake": from now on this side is signalled only when it sleeps.
    pub(crate) fn start<E: Endpoint>(endpoint: &E, point: WaitPoint) -> Self {
        let waiter = Self { point, marked: false };
        waiter.say(endpoint, Self::awake(endpoint));
        waiter
    }

    pub(crate) const fn point(&self) -> WaitPoint {
        self.point
    }

    fn say<E: Endpoint>(&self, endpoint: &E, value: u32) {
        let region = endpoint.region();
        if let (Signallers::Listed { list, bit }, true) = (self.point.by, value != AWAKE) {
            put_bit(region, list, bit, true);
        }
        // Release: what was seen before this side woke up stays before it.
        region.u32(self.point.sleeper).store(value, Ordering::Release);
        if let (Signallers::Listed { list, bit }, AWAKE) = (self.point.by, value) {
            put_bit(region, list, bit, false);
        }
    }

    fn awake<E: Endpoint>(endpoint: &E) -> u32 {
        if endpoint.has_heavy_barrier() { AWAKE } else { AWAKE_FENCED }
    }

    /// Marks this side as asleep. The caller looks once more before it believes the ticket.
    pub(crate) fn arm<E: Endpoint>(&mut self, endpoint: &E) -> Ticket {
        let region = endpoint.region();
        let kind = endpoint.sleep_kind();
        // Acquire keeps the mark below it, and pairs with the Release of `bump`.
        let value = region.u32(self.point.sequence).load(Ordering::Acquire);
        let mark = match kind {
            SleepKind::Word => ASLEEP,
            SleepKind::Doorbell => ASLEEP_ON_DOORBELL,
        };
        self.say(endpoint, mark);
        self.marked = true;
        if !endpoint.heavy_barrier() {
            // Pairs with the fence (or, by membarrier, with nothing but the compiler fence) in `light_barrier`.
            region.fence();
        }
        Ticket { word: self.point.sequence, value, kind, half: self.point.half }
    }

    /// Says "awake" again, if this side was marked.
    #[inline(always)]
    pub(crate) fn disarm<E: Endpoint>(&mut self, endpoint: &E) {
        if self.marked {
            self.disarm_marked(endpoint);
        }
    }

    #[cold]
    fn disarm_marked<E: Endpoint>(&mut self, endpoint: &E) {
        self.marked = false;
        self.say(endpoint, Self::awake(endpoint));
    }

    /// Takes this side out of the protocol: it will never sleep again, so nobody needs to signal it. (When a peer is
    /// replaced, whoever resets the session sets its words back to "unknown".)
    pub(crate) fn stop<E: Endpoint>(&mut self, endpoint: &E) {
        self.marked = false;
        // Others of this side wait at the same word if many signal there.
        let stays = self.point.by == Signallers::Many;
        self.say(endpoint, if stays { Self::awake(endpoint) } else { AWAKE });
    }
}

/// How often a word in which everybody has a bit is tried to be changed; a peer that rewrites it in a loop can only keep
/// a wake-up from somebody.
const BIT_TRIES: u32 = 1 << 10;

/// Sets or clears one side's bit.
pub(crate) fn put_bit<R: Region>(region: &R, list: At<u64>, bit: u64, on: bool) {
    let word = region.u64(list);
    let mut seen = word.load(Ordering::Relaxed);
    for _ in 0..BIT_TRIES {
        let wanted = if on { seen | bit } else { seen & !bit };
        if wanted == seen {
            return;
        }
        match word.compare_exchange(seen, wanted, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => seen = now,
        }
    }
}

/// The publisher's half of the store-load barrier.
#[inline(always)]
fn light_barrier<E: Endpoint>(endpoint: &E) {
    if !endpoint.is_registered() {
        endpoint.region().fence();
    }
    // Otherwise the peer's heavy barrier supplies the rest.
    compiler_fence(Ordering::SeqCst);
}

/// A value that no sleeper word has.
const NEVER: u32 = u32::MAX;

/// One signalling side of a [`WaitPoint`].
pub(crate) struct Signaller<R: Region> {
    sleeper: R::Fixed32,
    /// What the sleeper word says when there is nothing to do: awake. A side that has to fence before it looks has to do
    /// something always.
    quiet: u32,
    point: WaitPoint,
}

impl<R: Region> Signaller<R> {
    pub(crate) fn new<E: Endpoint<Region = R>>(endpoint: &E, point: WaitPoint) -> Self {
        let quiet = if endpoint.is_registered() { AWAKE } else { NEVER };
        Self { sleeper: endpoint.region().fix_u32(point.sleeper), quiet, point }
    }

    /// Tells the waiter that there is something, after it was published.
    #[inline(always)]
    pub(crate) fn signal<E: Endpoint<Region = R>>(&self, endpoint: &E) {
        compiler_fence(Ordering::SeqCst);
        if self.sleeper.load(Ordering::Relaxed) != self.quiet {
            signal_sleeper(endpoint, &self.point);
        }
    }
}

#[cold]
#[inline(never)]
fn signal_sleeper<E: Endpoint>(endpoint: &E, point: &WaitPoint) {
    light_barrier(endpoint);
    let sleeper = endpoint.region().u32(point.sleeper);
    match look_again(endpoint, point) {
        AWAKE | AWAKE_FENCED => {}
        mark @ (ASLEEP | ASLEEP_ON_DOORBELL) if point.by == Signallers::One => {
            // The taker does not know which barrier the sleeper has, so it leaves the careful "awake".
            // Relaxed: the bump or the ring below carries the order.
            if sleeper.compare_exchange(mark, AWAKE_FENCED, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                rouse(endpoint, point, mark);
            }
        }
        mark => rouse(endpoint, point, mark),
    }
}

/// The sleeper word, read behind a full fence if the sleeper relies on one. Whoever is seen asleep may: it may have woken
/// up since and be about to sleep again, and a compare-exchange that finds it awake orders nothing.
fn look_again<E: Endpoint>(endpoint: &E, point: &WaitPoint) -> u32 {
    let sleeper = endpoint.region().u32(point.sleeper);
    let seen = sleeper.load(Ordering::Relaxed);
    if seen == AWAKE || !endpoint.is_registered() {
        return seen;
    }
    // Pairs with the fence in `Waiter::arm`.
    endpoint.region().fence();
    sleeper.load(Ordering::Relaxed)
}

fn rouse<E: Endpoint>(endpoint: &E, point: &WaitPoint, seen: u32) {
    match seen {
        ASLEEP => bump(endpoint, point.sequence),
        ASLEEP_ON_DOORBELL => {}
        _ => bump(endpoint, point.old),
    }
    if seen != ASLEEP {
        endpoint.ring(point.waiter, point.half);
    }
}

fn bump<E: Endpoint>(endpoint: &E, sequence: At<u32>) {
    // Release pairs with the Acquire in `Waiter::arm`.
    endpoint.region().u32(sequence).fetch_add(1, Ordering::Release);
    endpoint.wake(sequence);
}

/// Tells everybody who waits at one of two points that share a sequence word. Nobody takes a mark: a signaller that
/// dies between taking and waking would strand a waiter. Each waiter clears its own.
#[inline(always)]
pub(crate) fn signal_both<E: Endpoint>(endpoint: &E, points: &[WaitPoint; 2]) {
    light_barrier(endpoint);
    let [first, second] = points;
    let region = endpoint.region();
    let awake = |point: &WaitPoint| region.u32(point.sleeper).load(Ordering::Relaxed) == AWAKE;
    if !(awake(first) && awake(second)) {
        signal_sleepers(endpoint, points);
    }
}

/// Tells everybody who waits at one of the points that have a bit in `list` and share a sequence word. As with
/// [`signal_both`], nobody takes a mark.
#[inline(always)]
pub(crate) fn signal_listed<E: Endpoint>(endpoint: &E, list: At<u64>, point: impl Fn(u32) -> Option<WaitPoint>) {
    light_barrier(endpoint);
    let marked = endpoint.region().u64(list).load(Ordering::Relaxed);
    if marked != 0 {
        signal_bits(endpoint, marked, point);
    }
}

#[cold]
#[inline(never)]
fn signal_bits<E: Endpoint>(endpoint: &E, marked: u64, point: impl Fn(u32) -> Option<WaitPoint>) {
    let mut told = Told::default();
    // A bit of nobody is rubbish.
    for point in (0..u64::BITS).filter(|bit| marked >> bit & 1 == 1).filter_map(point) {
        signal_one_of_many(endpoint, &point, &mut told);
    }
}

#[cold]
#[inline(never)]
fn signal_sleepers<E: Endpoint>(endpoint: &E, points: &[WaitPoint; 2]) {
    let mut told = Told::default();
    for point in points {
        signal_one_of_many(endpoint, point, &mut told);
    }
}

/// What needs to be done once for all who wait for a slot, and was done.
#[derive(Default)]
struct Told {
    bumped: bool,
    rung: bool,
}

/// Tells one of several who share a sequence word, and maybe a doorbell.
fn signal_one_of_many<E: Endpoint>(endpoint: &E, point: &WaitPoint, told: &mut Told) {
    let seen = look_again(endpoint, point);
    if matches!(seen, AWAKE | AWAKE_FENCED) {
        return;
    }
    if seen != ASLEEP_ON_DOORBELL && !core::mem::replace(&mut told.bumped, true) {
        bump(endpoint, point.sequence);
    }
    if seen != ASLEEP && !told.rung {
        told.rung = endpoint.ring_for_slot(point.waiter);
    }
}
