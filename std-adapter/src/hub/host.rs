//! The host: its plugins, and what becomes of those that are gone.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rapace_shm_core::endpoint::PeerId;
use rapace_shm_core::hub::{self as core_hub, HostEnd, HostLedgerIn, HubError, HubLink, HubSlotStatus, Reaped, Waits};
use rapace_shm_core::layout::{HubConfig, MAX_PEERS, PeerState};
use rapace_shm_core::ledger::HasLedger;
use rapace_shm_core::region::InRegion;

use super::hearing::Heard;
use super::host_endpoint::{HostEndpoint, LinkState};
use super::member::{HubEnd, Member};
use super::old::Looks;
use super::options::HubOptions;
use super::room;
use super::watching::ProcessWatch;
use crate::error::Error;
use crate::ground::{Ground, entries};
use crate::mapping::Mapping;
use crate::metrics::ShmMetrics;
use crate::os_endpoint::OsEndpoint;
use crate::process::Process;
use crate::receiver::Receiver;
use crate::reception::Reception;
use crate::sender::Sender;
use crate::spin::Spin;
use crate::system_calls::SystemCalls;
use crate::trace::event;
use crate::wiring::Wiring;

/// The host of a hub.
///
/// It serves every plugin itself, with one sleep for all ([`recv_any`](Self::recv_any)), except those that were added with
/// [`Waits::Alone`], whose ends it hands out ([`take`](Self::take)).
///
/// A plugin that is gone, and from which everything was received, is cleaned up after by itself: its slots go back, and its
/// number may be given out again.
pub struct HubHost {
    pub(super) inner: Inner,
    pub(super) spin: Spin,
}

/// All but what is on hand while waiting.
pub(super) struct Inner {
    /// Those that wait together. First, so that every link is closed before the host says that it has left.
    pub(super) members: Vec<Member>,
    /// Those that wait alone and were not taken yet.
    pub(super) apart: Vec<Member>,
    pub(super) core: core_hub::HubHost<HostEndpoint>,
    pub(super) endpoint: HostEndpoint,
    pub(super) mapping: Arc<Mapping>,
    pub(super) options: HubOptions,
    /// Where plugins join, and how they wait.
    pub(super) reception: Option<(Reception<()>, Waits)>,
    /// What is to be reported before anything else.
    pub(super) news: VecDeque<(PeerId, Heard)>,
    /// Plugins that have a number and have not attached yet; by when they must.
    pub(super) expected: Vec<(PeerId, Option<Instant>)>,
    /// For when the alarm is set.
    pub(super) alarm_at: Option<Instant>,
    /// Messages, and looks in vain, since what is slow to look at was last looked at.
    pub(super) heard: u32,
    reclaimed: [Option<Result<Reaped, HubError>>; MAX_PEERS as usize],
}

impl HubHost {
    /// The host of a new hub on a memfd: mode 0600, its size sealed (against shrinking only, if the hub may
    /// [grow](HubConfig::max_extents)), closed on exec. Of its bytes (115 MB with the default size classes) only those exist
    /// that were written to.
    ///
    /// # Errors
    /// [`Error::Hub`] for a shape that the layout cannot carry, [`Error::LimitExceeded`], [`Error::Io`].
    pub fn create(config: HubConfig) -> Result<Self, Error> {
        HubOptions::new().create(config)
    }

    pub(super) fn new(
        options: HubOptions,
        mapping: &Arc<Mapping>,
        file: Option<OwnedFd>,
        config: HubConfig,
    ) -> Result<Self, Error> {
        let ledger = HostLedgerIn::over(entries(config.slots()));
        let bells = options.bells(file.is_some())?;
        let ground = Ground::new(mapping.region()?, ledger, options.barriers(), file);
        let endpoint = HostEndpoint::new(ground, bells);
        let core = core_hub::HubHost::create(endpoint.clone(), config)?;
        room::bound_fresh(&core, options.max_bytes)?;
        let inner = Inner {
            members: Vec::new(),
            apart: Vec::new(),
            core,
            endpoint,
            mapping: Arc::clone(mapping),
            options,
            reception: None,
            news: VecDeque::new(),
            expected: Vec::new(),
            alarm_at: None,
            heard: 0,
            reclaimed: [None; MAX_PEERS as usize],
        };
        Ok(Self { inner, spin: options.spin })
    }

    /// The memfd behind the hub, if it has one.
    #[must_use]
    pub fn memfd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.endpoint.file()
    }

    /// The shape of the hub.
    #[must_use]
    pub fn config(&self) -> HubConfig {
        self.inner.core.allocator().config()
    }

    /// What the slots look like at this moment.
    #[must_use]
    pub fn slot_status(&self) -> HubSlotStatus {
        self.inner.core.slot_status()
    }

    /// Plugins that have a number, attached or not.
    #[must_use]
    pub const fn peer_count(&self) -> u32 {
        self.inner.core.peer_count()
    }

    /// Where a plugin is; `None` if none has that number.
    #[must_use]
    pub fn peer_state(&self, id: PeerId) -> Option<PeerState> {
        self.inner.core.peer_state(id)
    }

    /// This side's environment.
    #[must_use]
    pub fn endpoint(&self) -> &HostEndpoint {
        &self.inner.endpoint
    }

    /// The system calls that the host has made so far, those of all its links' halves included.
    #[must_use]
    pub fn system_calls(&self) -> SystemCalls {
        self.inner.endpoint.system_calls()
    }

    /// Counts what goes through all links of the host, from now on. Says whether it does: the first set of counters that
    /// it is given is the one that it keeps.
    pub fn count_into(&self, metrics: &Arc<ShmMetrics>) -> bool {
        self.inner.endpoint.count_into(metrics)
    }

    /// How long later calls that receive from any plugin look before they sleep.
    pub fn set_spin(&mut self, spin: Spin) {
        self.spin = spin;
    }

    /// Lets no plugin have more than `slots` slots of a size class at a time; 0 = any number. A plugin that has as many
    /// waits, or takes a larger slot.
    ///
    /// # Errors
    /// [`Error::Hub`]: no such class.
    pub fn set_quota(&self, class: u32, slots: u32) -> Result<(), Error> {
        Ok(self.inner.core.set_quota(class, slots)?)
    }

    /// Sets the quota of every class so that a plugin leaves at least one slot for each of `others` other members.
    pub fn share_among(&self, others: u16) {
        self.inner.core.share_among(others);
    }

    /// The end of the link to a plugin that waits alone, to go to another thread.
    ///
    /// # Errors
    /// [`Error::NotServed`] if the plugin does not wait alone, is gone, or its end was taken already.
    pub fn take(&mut self, id: PeerId) -> Result<HubEnd, Error> {
        let place = self.inner.apart.iter().position(|member| member.id == id).ok_or(Error::NotServed { id })?;
        let Member { sender, receiver, .. } = self.inner.apart.remove(place);
        Ok(HubEnd::new(id, sender.ok_or(Error::NotServed { id })?, receiver))
    }

    /// Closes the link to a plugin, which sees the end (but one of version 1.0 does not). Its number is given out again once it
    /// is gone.
    ///
    /// # Errors
    /// [`Error::NotServed`].
    pub fn dismiss(&mut self, id: PeerId) -> Result<(), Error> {
        if self.inner.remove(id).is_none() {
            return Err(Error::NotServed { id });
        }
        self.inner.endpoint.probe_old(id);
        self.inner.tidy();
        Ok(())
    }

    /// What was reclaimed of the last plugin that had this number and is gone; `None` if none is. An error says that the
    /// plugin left the hub damaged, so that its number cannot be given out any more.
    #[must_use]
    pub fn reclaimed(&self, id: PeerId) -> Option<Result<Reaped, HubError>> {
        *self.inner.reclaimed.get(usize::from(id.0))?
    }

    /// Cleans up after every plugin that is gone and has nothing left to be received. Receiving, adding and dismissing do
    /// that by themselves; a host whose links all wait alone calls this now and then. Returns how many slots remain of
    /// which it is not clear yet who has them: look again later.
    pub fn tidy(&mut self) -> usize {
        self.inner.endpoint.look_for_death();
        (0..MAX_PEERS).for_each(|id| self.inner.endpoint.probe_old(PeerId(id)));
        self.inner.tidy();
        self.inner.core.settle()
    }
}

impl Inner {
    /// Gives out a number; `connect` makes what the plugin gets, and the host's wiring.
    pub(super) fn add<T>(
        &mut self,
        waits: Waits,
        until: Option<Instant>,
        connect: impl FnOnce(&Self, PeerId) -> Result<(T, Option<Wiring>), Error>,
    ) -> Result<(PeerId, T), Error> {
        self.tidy();
        let link = self.core.reserve(waits)?;
        self.connect(link, waits, until, connect)
    }

    /// Makes a member of the host's end of a fresh link.
    pub(super) fn connect<T>(
        &mut self,
        link: HubLink<HostEnd<HostEndpoint>>,
        waits: Waits,
        until: Option<Instant>,
        connect: impl FnOnce(&Self, PeerId) -> Result<(T, Option<Wiring>), Error>,
    ) -> Result<(PeerId, T), Error> {
        let (id, own_points, process) = (link.id(), link.own_points(), link.peer_process());
        if self.endpoint.bells().is_none()
            && let Ok(this) = Process::current()
        {
            this.write(self.endpoint.region(), link.own_process());
        }
        let (_, sender, receiver) = link.into_parts();
        let (sender, receiver) = (Sender::new(sender, self.options.spin), Receiver::new(receiver, self.options.spin));
        let member = Member { id, sender: Some(sender), receiver, ended: false };
        if waits == Waits::Together { &mut self.members } else { &mut self.apart }.push(member);
        let connected = connect(self, id).and_then(|(given, wiring)| {
            let (watch, host) = (ProcessWatch::default(), self.endpoint.downgrade());
            let (looks, pool) = (Looks::default(), *self.core.allocator());
            self.endpoint.connect(LinkState { id, wiring, own_points, process, watch, host, looks, pool })?;
            Ok((id, given))
        });
        match &connected {
            Ok(_) => self.expected.push((id, until)),
            Err(_) => self.give_up(id),
        }
        connected
    }

    /// Takes back a number that nobody has attached with.
    pub(super) fn give_up(&mut self, id: PeerId) {
        if self.core.withdraw(id) {
            drop(self.remove(id));
            self.reap(id);
        }
    }

    pub(super) fn remove(&mut self, id: PeerId) -> Option<Member> {
        for members in [&mut self.members, &mut self.apart] {
            if let Some(place) = members.iter().position(|member| member.id == id) {
                return Some(members.remove(place));
            }
        }
        None
    }

    /// Looks who has come, and cleans up after who is gone.
    pub(super) fn tidy(&mut self) {
        self.look_who_came();
        for id in (1..self.core.allocator().config().max_peers).map(PeerId) {
            if self.is_over(id) {
                // It may have been reported without being closed.
                drop(self.remove(id));
                self.reap(id);
            }
        }
    }

    /// Whether a plugin is gone, and there is nothing to be received from it.
    fn is_over(&self, id: PeerId) -> bool {
        let is_gone = self.core.has_gone(id) || self.endpoint.is_dead(id);
        let is_damaged = matches!(self.reclaimed.get(usize::from(id.0)), Some(Some(Err(_))));
        if self.core.peer_state(id).is_none() || !is_gone || is_damaged {
            return false;
        }
        // One that waits alone and was not taken is drained by nobody.
        self.members.iter().all(|member| member.id != id || member.ended)
    }

    pub(super) fn look_who_came(&mut self) {
        let now = Instant::now();
        for (id, until) in std::mem::take(&mut self.expected) {
            match self.core.peer_state(id) {
                Some(PeerState::Vacant) if until.is_some_and(|until| now >= until) => self.give_up(id),
                Some(PeerState::Vacant) => self.expected.push((id, until)),
                Some(PeerState::Unknown) if !self.old_plugin_has_come(id) => self.expected.push((id, until)),
                Some(_) => self.news.push_back((id, Heard::Joined)),
                None => {}
            }
        }
        self.set_alarm();
    }

    /// Has the host woken when the next of those who come has taken too long.
    fn set_alarm(&mut self) {
        let clients = self.reception.as_ref().and_then(|(reception, _)| reception.soonest_deadline());
        let soonest = self.expected.iter().filter_map(|(_, until)| *until).chain(clients).min();
        if let Some(bells) = self.endpoint.bells()
            && soonest != self.alarm_at
            && bells.alarm.set(soonest).is_ok()
        {
            self.alarm_at = soonest;
        }
    }

    fn old_plugin_has_come(&self, id: PeerId) -> bool {
        self.core.allocator().old_plugin_has_come(self.endpoint.region(), id)
    }

    /// The number may be given out again, unless a half of the link is still open: then later.
    fn reap(&mut self, id: PeerId) {
        let reaped = self.core.reap_closed(id);
        if matches!(reaped, Err(HubError::InUse { .. })) {
            return;
        }
        event!(INFO, plugin = id.0, ?reaped, "plugin is gone");
        self.endpoint.disconnect(id);
        self.expected.retain(|(expected, _)| *expected != id);
        if let Some(place) = self.reclaimed.get_mut(usize::from(id.0)) {
            *place = Some(reaped);
        }
    }
}

impl fmt::Debug for HubHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubHost")
            .field("config", &self.config())
            .field("members", &self.inner.members)
            .field("held", &self.inner.endpoint.ledger().held())
            .finish_non_exhaustive()
    }
}
