//! Inputs: seeds, mutated, and bytes made up at random. Input number N is always the same.

use fastrand::Rng;

use crate::functions::LONGEST;

/// Makes inputs from seeds.
pub struct Generator {
    seeds: Vec<Vec<u8>>,
}

impl Generator {
    pub fn new(seeds: Vec<Vec<u8>>) -> Self {
        assert!(!seeds.is_empty());
        Self { seeds }
    }

    /// Input number `number`: a seed, more and more often mutated; one in four is made up.
    pub fn input(&self, number: u64) -> Vec<u8> {
        let mut rng = Rng::with_seed(number);
        if number < self.seeds.len() as u64 {
            return self.seed(usize::try_from(number).unwrap_or(0));
        }
        let made_up = rng.u8(..4) == 0;
        let mut input = if made_up { some_bytes(&mut rng, 400) } else { self.seed(rng.usize(..self.seeds.len())) };
        for _ in 0..rng.u32(..12) {
            self.mutate(&mut input, &mut rng);
        }
        input.truncate(LONGEST);
        input
    }

    fn seed(&self, number: usize) -> Vec<u8> {
        self.seeds[number].clone()
    }

    fn mutate(&self, input: &mut Vec<u8>, rng: &mut Rng) {
        let at = rng.usize(..=input.len());
        match rng.u8(..7) {
            0 => write_over(input, at, &[rng.u8(..)]),
            1 => {
                let any = rng.u32(..);
                let word = rng.choice([0, 1, 2, 3, 4, 64, 1 << 16, 1 << 31, u32::MAX - 1, u32::MAX, any]);
                write_over(input, at & !3, &word.unwrap_or(any).to_le_bytes());
            }
            2 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.u8(..8)),
            3 => insert(input, at, &some_bytes(rng, 32)),
            4 => drop(input.drain(at..at + rng.usize(..=(input.len() - at).min(32)))),
            5 => {
                let end = at + rng.usize(..=(input.len() - at).min(64));
                let again = input[at..end].to_vec();
                insert(input, end, &again);
            }
            _ => {
                let other = self.seed(rng.usize(..self.seeds.len()));
                input.truncate(at);
                input.extend(other.into_iter().skip(at));
            }
        }
    }
}

fn some_bytes(rng: &mut Rng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; rng.usize(..most)];
    rng.fill(&mut bytes);
    bytes
}

fn write_over(input: &mut [u8], at: usize, bytes: &[u8]) {
    input.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}
