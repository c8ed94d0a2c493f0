//! Sending to one plugin, and what a host sees to while it waits for room.

use rapace_shm_core::endpoint::PeerId;
use rapace_shm_core::hub::HostEnd;
use rapace_shm_core::layout::MsgDescHot;
use rapace_shm_core::wake::Step;

use super::hearing::Heard;
use super::host::{HubHost, Inner};
use super::host_endpoint::HostEndpoint;
use super::{HostLoan, HostSender};
use crate::error::{Error, Unsent};
use crate::wait::{Waits, until_ready};

impl HubHost {
    /// The sender to a plugin, for whatever one can do with it.
    ///
    /// # Errors
    /// [`Error::NotServed`].
    pub fn sender(&mut self, id: PeerId) -> Result<&mut HostSender, Error> {
        self.inner.sender(id)
    }

    /// The sender to a plugin, to go to another thread. It closes that direction when it is dropped, and as long as it is
    /// there, a plugin that is gone is not cleaned up after.
    ///
    /// # Errors
    /// [`Error::NotServed`].
    pub fn take_sender(&mut self, id: PeerId) -> Result<HostSender, Error> {
        let member = self.inner.members.iter_mut().find(|member| member.id == id);
        member.and_then(|member| member.sender.take()).ok_or(Error::NotServed { id })
    }

    /// Sends a message to a plugin, copying its payload; waits for room. Nothing is received meanwhile: a plugin that does
    /// the same towards the host waits for ever, so between two that send much one should use
    /// [`take_sender`](Self::take_sender) or the calls that do not wait. Whoever dies meanwhile is cleaned up after, so
    /// that its slots can be used; what it had sent is [received](Self::recv_any) later, before its end.
    ///
    /// # Errors
    /// As [`Sender::send`](crate::Sender::send), and [`Error::NotServed`].
    pub fn send_to(&mut self, id: PeerId, descriptor: &MsgDescHot, payload: &[u8]) -> Result<(), Error> {
        match self.sender(id)?.try_send(descriptor, payload) {
            Err(Error::Full) => self.wait_for(
                id,
                |sender| sender.try_send(descriptor, payload),
                |sender| sender.poll_send(descriptor, payload),
            ),
            done => done,
        }
    }

    /// Sends a message to a plugin if there is room.
    ///
    /// # Errors
    /// As [`Sender::try_send`](crate::Sender::try_send), and [`Error::NotServed`].
    pub fn try_send_to(&mut self, id: PeerId, descriptor: &MsgDescHot, payload: &[u8]) -> Result<(), Error> {
        self.sender(id)?.try_send(descriptor, payload)
    }

    /// Takes a slot for a message of `len` bytes to a plugin; waits for one. It may as well be sent to another one.
    ///
    /// # Errors
    /// As [`Sender::loan`](crate::Sender::loan), and [`Error::NotServed`].
    pub fn loan_for(&mut self, id: PeerId, len: usize) -> Result<HostLoan, Error> {
        match self.sender(id)?.try_loan(len) {
            Err(Error::Full) => self.wait_for(id, |sender| sender.try_loan(len), |sender| sender.poll_loan(len)),
            done => done,
        }
    }

    /// Repeats what there was no room for, and cleans up after whoever dies meanwhile.
    fn wait_for<T>(
        &mut self,
        id: PeerId,
        mut attempt: impl FnMut(&mut HostSender) -> Result<T, Error>,
        mut step: impl FnMut(&mut HostSender) -> Result<Step<T>, Error>,
    ) -> Result<T, Error> {
        let end = self.sender(id)?.endpoint().clone();
        let attempt = |towards: &mut Towards<'_>| match towards.sender().and_then(&mut attempt) {
            Err(Error::Full) => None,
            done => Some(done),
        };
        let step = |towards: &mut Towards<'_>| step(towards.sender()?);
        until_ready(&mut Towards { inner: &mut self.inner, id, end }, &mut self.spin, None, attempt, step)
    }

    /// Sends a loan to a plugin where it lies; waits for room in the ring, which is the plugin's to make.
    ///
    /// # Errors
    /// As [`Sender::send_loan`](crate::Sender::send_loan), and [`Error::NotServed`]; the loan comes back.
    pub fn send_loan_to(
        &mut self,
        id: PeerId,
        descriptor: &MsgDescHot,
        loan: HostLoan,
    ) -> Result<(), Unsent<HostLoan>> {
        match self.sender(id) {
            Ok(sender) => sender.send_loan(descriptor, loan),
            Err(error) => Err(Unsent { error, loan: Some(loan) }),
        }
    }
}

impl Inner {
    fn sender(&mut self, id: PeerId) -> Result<&mut HostSender, Error> {
        let member = self.members.iter_mut().find(|member| member.id == id);
        member.and_then(|member| member.sender.as_mut()).ok_or(Error::NotServed { id })
    }

    /// Cleans up after those who are dead without waiting for their ends to be reported: what they had sent, and their ends,
    /// are kept to be reported first.
    fn clean_up_early(&mut self) {
        self.endpoint.take_death();
        // One that has come and gone is first heard of as having come.
        self.look_who_came();
        for member in &mut self.members {
            while self.endpoint.is_dead(member.id) && !member.ended {
                let heard = match member.receiver.try_recv() {
                    Ok(message) => Heard::Message(message),
                    Err(Error::Empty) => break,
                    Err(end) => {
                        member.ended = true;
                        Heard::Ended(end)
                    }
                };
                self.news.push_back((member.id, heard));
            }
        }
        self.tidy();
    }
}

/// The host as it waits for room towards one plugin.
struct Towards<'a> {
    inner: &'a mut Inner,
    id: PeerId,
    end: HostEnd<HostEndpoint>,
}

impl Towards<'_> {
    fn sender(&mut self) -> Result<&mut HostSender, Error> {
        if self.inner.endpoint.has_heard_of_death() {
            self.inner.clean_up_early();
        }
        // It was there when the call began.
        self.inner.sender(self.id).map_err(|_| Error::PeerDied)
    }
}

impl Waits for Towards<'_> {
    type Endpoint = HostEnd<HostEndpoint>;

    fn endpoint(&self) -> &HostEnd<HostEndpoint> {
        &self.end
    }

    fn disarm(&mut self) {
        if let Ok(sender) = self.inner.sender(self.id) {
            sender.disarm();
        }
    }
}
