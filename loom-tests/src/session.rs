//! Two peers of a session, and the loops that an adapter puts around core's steps.

use std::rc::Rc;

use rapace_shm_core::layout::{
    DataSegmentHeader, DescRingHeader, MsgDescHot, SegmentOffsets, ShmSessionConfig, SlotMeta,
};
use rapace_shm_core::link::{Link, Loan, Message, PeerRole, Receiver, RecvError, SendError, Sender};
use rapace_shm_core::wake::Step;

use crate::endpoint::{Barrier, Bell, LoomEndpoint};
use crate::fields::Fields;
use crate::mutant::{Mutant, Mutation};
use crate::place::Lines;
use crate::region::LoomRegion;

/// What the peers of a model are like; the default is core on fences, with nothing wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peers {
    /// What is wrong with A and with B.
    pub mutations: [Mutation; 2],
    /// Which barriers A and B have.
    pub barriers: [Barrier; 2],
    /// Whether several threads use A's ledger ([`LoomRegion::with_ledger_steps`]).
    pub shares_ledger_of_a: bool,
}

impl Peers {
    /// Something is wrong with A.
    #[must_use]
    pub fn a(mutation: Mutation) -> Self {
        Self { mutations: [mutation, Mutation::None], ..Self::default() }
    }

    /// Something is wrong with B.
    #[must_use]
    pub fn b(mutation: Mutation) -> Self {
        Self { mutations: [Mutation::None, mutation], ..Self::default() }
    }

    /// The same is wrong with both.
    #[must_use]
    pub fn both(mutation: Mutation) -> Self {
        Self { mutations: [mutation; 2], ..Self::default() }
    }

    /// A session of these peers: the links of A and of B.
    ///
    /// # Panics
    /// If the session cannot be made.
    #[must_use]
    pub fn connect(self, config: ShmSessionConfig) -> (Link<LoomEndpoint>, Link<LoomEndpoint>) {
        let offsets = SegmentOffsets::calculate(&config).unwrap();
        let region = LoomRegion::new(&Fields::session(&config), Lines::Owned);
        let bell = Rc::new(Bell::new(&offsets));
        let view_of_a = if self.shares_ledger_of_a { region.with_ledger_steps() } else { region.clone() };
        let [a, b] = [(view_of_a, 0), (region, 1)].map(|(view, peer)| {
            let view = Mutant::new(view, self.mutations[peer]);
            LoomEndpoint::new(view, config.slot_count, bell.clone(), self.barriers[peer])
        });
        (Link::create(a, config).unwrap(), Link::attach(b).unwrap())
    }
}

/// Where the head of the common list of free slots is.
///
/// # Panics
/// If the shape is none that the layout can carry.
#[must_use]
pub fn free_head(config: &ShmSessionConfig) -> usize {
    DataSegmentHeader::FREE_HEAD.within(SegmentOffsets::calculate(config).unwrap().data_header).offset()
}

/// Where a slot's generation and state are.
///
/// # Panics
/// If the shape is none that the layout can carry.
#[must_use]
pub fn slot_meta(config: &ShmSessionConfig, slot: usize) -> usize {
    SegmentOffsets::calculate(config).unwrap().slot_meta + slot * size_of::<SlotMeta>()
}

/// Where the head of the list of the slots that a peer has returned is.
///
/// # Panics
/// If the shape is none that the layout can carry.
#[must_use]
pub fn returned_by(peer: PeerRole, config: &ShmSessionConfig) -> usize {
    let offsets = SegmentOffsets::calculate(config).unwrap();
    DescRingHeader::RETURNED
        .within(match peer {
            PeerRole::A => offsets.b_to_a_ring,
            PeerRole::B => offsets.a_to_b_ring,
        })
        .offset()
}

/// Repeats a step until it is ready, and sleeps on its tickets in between.
///
/// # Errors
/// The step's.
pub fn wait<T, X>(endpoint: &LoomEndpoint, mut step: impl FnMut() -> Result<Step<T>, X>) -> Result<T, X> {
    loop {
        match step()? {
            Step::Ready(done) => return Ok(done),
            Step::Sleep(ticket) => endpoint.sleep(&ticket),
        }
    }
}

/// Sends, sleeping as long as it takes.
///
/// # Errors
/// What makes sending impossible.
pub fn send(sender: &mut Sender<LoomEndpoint>, message: &MsgDescHot, payload: &[u8]) -> Result<(), SendError> {
    wait(&sender.endpoint().clone(), || sender.poll_send(message, payload))
}

/// Takes a slot, sleeping as long as it takes.
///
/// # Errors
/// What makes sending impossible.
pub fn loan(sender: &mut Sender<LoomEndpoint>, len: usize) -> Result<Loan<LoomEndpoint>, SendError> {
    wait(&sender.endpoint().clone(), || sender.poll_loan(len))
}

/// Receives, sleeping as long as it takes.
///
/// # Errors
/// The end, or a fault.
pub fn receive(receiver: &mut Receiver<LoomEndpoint>) -> Result<Message<LoomEndpoint>, RecvError> {
    wait(&receiver.endpoint().clone(), || receiver.poll_recv())
}

/// Checks that every slot is free and in a list of free slots.
///
/// # Panics
/// If one is not.
pub fn assert_all_free(link: &Link<LoomEndpoint>) {
    let slots = link.status().slots;
    assert_eq!((slots.free, slots.free_list_len), (slots.total, slots.total), "slots are lost");
}
