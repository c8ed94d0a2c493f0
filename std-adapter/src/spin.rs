//! How long to look again before going to sleep.

/// How many times a waiting call tries again before it sleeps.
///
/// Waking a sleeper takes tens of microseconds, so it pays to look a little longer first. How much longer adapts: a
/// wait that was over while it spun allows the next one the full limit again, one that had to sleep halves it, down to
/// a sixteenth. An endpoint whose peer is slow soon spins hardly at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spin {
    limit: u32,
    budget: u32,
    /// Tries of the wait that is under way.
    spent: u32,
}

/// What a [portion](Spin::portion) of looking came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked<T> {
    /// There it was.
    Found(T),
    /// Nothing yet; another portion may find it.
    NotYet,
    /// The budget of this wait is spent: go to sleep.
    InVain,
}

/// About fifty microseconds of looking on a machine of 2025. Going to sleep and being woken takes about as long, so a
/// wait costs at most twice what it would have cost had the future been known; and an interrupt on the peer's processor
/// is usually over by then.
const DEFAULT_LIMIT: u32 = 6000;

/// Tries between two looks at something slow: hundreds of microseconds, which the default limit never reaches.
pub(crate) const NOW_AND_THEN: u32 = 32_768;

impl Spin {
    /// At most `limit` tries; 0 sleeps at once.
    #[must_use]
    pub const fn tries(limit: u32) -> Self {
        Self { limit, budget: limit, spent: 0 }
    }

    /// Sleeps at once.
    #[must_use]
    pub const fn none() -> Self {
        Self::tries(0)
    }

    /// Looks at most `tries` times in a row, for adapters that let others run between one portion of a wait and the next.
    /// All portions of a wait draw on one budget.
    #[inline]
    pub fn portion<T>(&mut self, tries: u32, mut attempt: impl FnMut() -> Option<T>) -> Looked<T> {
        if self.spent == self.budget {
            self.give_up();
            return Looked::InVain;
        }
        let end = self.spent.saturating_add(tries).min(self.budget);
        while self.spent < end {
            if let Some(value) = attempt() {
                (self.budget, self.spent) = (self.limit, 0);
                return Looked::Found(value);
            }
            self.spent += 1;
            std::hint::spin_loop();
        }
        Looked::NotYet
    }

    fn give_up(&mut self) {
        self.budget = (self.budget / 2).max(self.limit / 16);
        self.spent = 0;
    }

    /// Calls `attempt` until it gives something, for at most the current budget; and `now_and_then`, for what is too slow
    /// to do at each try.
    #[inline]
    pub(crate) fn until<H, T>(
        &mut self,
        half: &mut H,
        mut attempt: impl FnMut(&mut H) -> Option<T>,
        mut now_and_then: impl FnMut(&mut H),
    ) -> Option<T> {
        loop {
            match self.portion(NOW_AND_THEN, || attempt(half)) {
                Looked::Found(value) => return Some(value),
                Looked::NotYet if self.spent.is_multiple_of(NOW_AND_THEN) => now_and_then(half),
                Looked::NotYet => {}
                Looked::InVain => return None,
            }
        }
    }
}

/// On a machine with one processor: sleeps at once, because the peer cannot make progress meanwhile.
impl Default for Spin {
    fn default() -> Self {
        let alone = std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1);
        Self::tries(if alone { 0 } else { DEFAULT_LIMIT })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_in_vain_shortens_the_next_wait_and_success_restores_it() {
        let mut spin = Spin::tries(64);
        let mut tries = |succeed: bool| {
            let mut count = 0;
            spin.until(
                &mut count,
                |count| {
                    *count += 1;
                    succeed.then_some(())
                },
                |_| {},
            );
            count
        };
        assert_eq!([tries(false), tries(false), tries(false), tries(false)], [64, 32, 16, 8]);
        assert_eq!([tries(false), tries(false)], [4, 4]);
        assert_eq!([tries(true), tries(false)], [1, 64]);
    }

    #[test]
    fn who_spins_for_long_looks_at_the_slow_thing_now_and_then() {
        let mut looks = 0;
        assert_eq!(Spin::tries(4 * NOW_AND_THEN).until(&mut looks, |_| None::<()>, |looks| *looks += 1), None);
        assert_eq!(looks, 4);
    }

    #[test]
    fn portions_draw_on_one_budget() {
        let mut spin = Spin::tries(10);
        let mut count = 0;
        let mut look = |spin: &mut Spin| {
            spin.portion(4, || {
                count += 1;
                None::<()>
            })
        };
        assert_eq!([look(&mut spin), look(&mut spin), look(&mut spin)], [Looked::NotYet; 3]);
        assert_eq!(look(&mut spin), Looked::InVain);
        assert_eq!(count, 10);
        assert_eq!(spin.portion(4, || Some(1)), Looked::Found(1));
    }

    #[test]
    fn zero_never_tries() {
        assert_eq!(Spin::none().until(&mut (), |()| Some(()), |()| {}), None);
    }
}
