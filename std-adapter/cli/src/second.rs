//! The second process as the first one sees it. Whatever happens, it does not outlive this value, and no call waits for
//! it once it is gone.

use std::time::Instant;

use rapace_shm::{Loan, Message, MsgDescHot, Receiver, Sender, ShmSession, ShmSessionConfig, Unsent};

use crate::child::{self, Another, LOOK, LOOKS};
use crate::error::Error;
use crate::jobs::Job;

/// A second process of this program, and the session with it.
#[derive(Debug)]
pub struct Second {
    session: ShmSession,
    child: Another,
    deadline: Instant,
}

impl Second {
    /// Starts it.
    pub fn start(config: ShmSessionConfig) -> Result<Self, Error> {
        let session = ShmSession::create(config)?;
        let child = Another::new(session.spawn(&mut child::command("second"))?);
        Ok(Self { session, child, deadline: Instant::now() + LOOK })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a message, copied.
    #[inline]
    pub fn send(&mut self, descriptor: &MsgDescHot, payload: &[u8]) -> Result<(), Error> {
        match self.session.split().0.try_send(descriptor, payload) {
            Err(rapace_shm::Error::Full) => {
                self.patiently(|tx, _, deadline| tx.send_deadline(descriptor, payload, deadline))
            }
            done => self.done(done),
        }
    }

    /// Takes a slot.
    #[inline]
    pub fn loan(&mut self, len: usize) -> Result<Loan, Error> {
        match self.session.split().0.try_loan(len) {
            Err(rapace_shm::Error::Full) => self.patiently(|tx, _, deadline| tx.loan_deadline(len, deadline)),
            done => self.done(done),
        }
    }

    /// Sends a slot where it lies.
    #[inline]
    pub fn send_loan(&mut self, descriptor: &MsgDescHot, loan: Loan) -> Result<(), Error> {
        let mut rest = match self.session.split().0.try_send_loan(descriptor, loan) {
            Err(Unsent { error: rapace_shm::Error::Full, loan }) => loan,
            done => return self.done(done.map_err(rapace_shm::Error::from)),
        };
        self.patiently(|tx, _, deadline| {
            let Some(loan) = rest.take() else { return Ok(()) };
            tx.send_loan_deadline(descriptor, loan, deadline).map_err(|unsent| {
                rest = unsent.loan;
                unsent.error
            })
        })
    }

    /// Receives a message.
    #[inline]
    pub fn recv(&mut self) -> Result<Message, Error> {
        match self.session.split().1.recv_deadline(self.deadline) {
            Err(rapace_shm::Error::Timeout) => self.patiently(|_, rx, deadline| rx.recv_deadline(deadline)),
            done => self.done(done),
        }
    }

    /// Asks for a number.
    pub fn ask(&mut self, job: Job) -> Result<u64, Error> {
        self.send(&job.descriptor(0), b"")?;
        let answer = self.recv()?;
        let mut number = [0; 8];
        answer.copy_to(&mut number);
        Ok(u64::from_le_bytes(number))
    }

    /// System calls of both processes for this session so far.
    pub fn system_calls(&mut self) -> Result<u64, Error> {
        Ok(self.ask(Job::SystemCalls)? + self.session.system_calls().total())
    }

    /// Says goodbye, waits until it has ended well, and counts the slots that nobody gave back.
    pub fn finish(mut self) -> Result<u64, Error> {
        self.session.split().0.close();
        let status = self.child.wait()?;
        if !status.success() {
            return Err(Error::Failed(status));
        }
        let slots = self.session.status().slots;
        Ok(u64::from(slots.total - slots.free.min(slots.free_list_len)))
    }

    /// Repeats a call that gives up at a deadline, for as long as the second process runs and is not silent for ever.
    #[cold]
    fn patiently<T>(
        &mut self,
        mut call: impl FnMut(&mut Sender, &mut Receiver, Instant) -> Result<T, rapace_shm::Error>,
    ) -> Result<T, Error> {
        for _ in 0..LOOKS {
            self.deadline = Instant::now() + LOOK;
            let (tx, rx) = self.session.split();
            match call(tx, rx, self.deadline) {
                Err(rapace_shm::Error::Timeout) => {}
                done => return self.done(done),
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(Error::Ended(status));
            }
        }
        Err(Error::Silent(u64::from(LOOKS) * LOOK.as_secs()))
    }

    /// A session that is closed is a process that ended, or is about to.
    #[inline]
    fn done<T>(&mut self, result: Result<T, rapace_shm::Error>) -> Result<T, Error> {
        match result {
            Err(rapace_shm::Error::Closed | rapace_shm::Error::PeerDied) => Err(Error::Ended(self.child.wait()?)),
            done => Ok(done?),
        }
    }
}
