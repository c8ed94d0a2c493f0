//! Tasks that wait for the same thing, in the order in which they came.

use std::collections::VecDeque;
use std::task::Waker;

/// A task's place in a queue: its number.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place(u64);

/// Who waits. Only the first one tries; the others are woken when it is their turn.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: VecDeque<(u64, Waker)>,
    next: u64,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether it is the turn of the task with this place, or, if it has none yet, of a newcomer.
    pub(crate) fn is_turn_of(&self, place: Option<&Place>) -> bool {
        self.waiting.front().map(|(number, _)| *number) == place.map(|place| place.0)
    }

    /// Waits, or goes on waiting.
    pub(crate) fn wait(&mut self, place: &mut Option<Place>, waker: &Waker) {
        let known = place.as_ref().and_then(|place| self.index(place)).and_then(|index| self.waiting.get_mut(index));
        if let Some((_, known)) = known {
            known.clone_from(waker);
            return;
        }
        self.waiting.push_back((self.next, waker.clone()));
        *place = Some(Place(self.next));
        self.next += 1;
    }

    /// Waits no longer; gives the waker of whoever's turn it is now, if that has changed.
    #[must_use = "the next one has to be told, once no lock is held"]
    pub(crate) fn leave(&mut self, place: &Place) -> Option<Waker> {
        let index = self.index(place)?;
        self.waiting.remove(index);
        if index == 0 { self.first() } else { None }
    }

    /// The waker of whoever's turn it is.
    pub(crate) fn first(&self) -> Option<Waker> {
        self.waiting.front().map(|(_, waker)| waker.clone())
    }

    fn index(&self, place: &Place) -> Option<usize> {
        self.waiting.binary_search_by_key(&place.0, |(number, _)| *number).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn turns_go_by_arrival_whoever_leaves_first() {
        let mut queue = Queue::default();
        assert!(queue.is_turn_of(None), "a newcomer to an empty queue tries at once");
        let counts: [Arc<Count>; 3] = Default::default();
        let places: Vec<Place> = counts
            .iter()
            .map(|count| {
                let mut place = None;
                queue.wait(&mut place, &Waker::from(count.clone()));
                place.unwrap()
            })
            .collect();
        assert!(!queue.is_turn_of(None), "and behind others it does not");
        assert!(queue.is_turn_of(Some(&places[0])) && !queue.is_turn_of(Some(&places[1])));
        assert!(queue.leave(&places[1]).is_none(), "whose turn it is has not changed");
        queue.leave(&places[0]).unwrap().wake();
        assert_eq!(counts.each_ref().map(|count| count.0.load(Ordering::Relaxed)), [0, 0, 1]);
        assert!(queue.leave(&places[0]).is_none(), "leaving twice is nothing");
        assert!(queue.leave(&places[2]).is_none() && queue.is_empty());
    }
}
