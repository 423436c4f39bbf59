//! Which descriptor is copied where, and in which order, so that none is overwritten that is still to be copied.
//!
//! The descriptors are at any numbers here, and at 3, 4, 5 and so on in the new process. To copy one to its place
//! closes what stands there. If that is needed at another place, it must be copied first. So the copies are a graph in
//! which each place has at most one source. Its trees are copied from the leaves. What is left are rings, and one
//! element of each is put aside at a spare number first.

use std::os::fd::RawFd;

use super::super::inherit::FIRST;

/// `dup2(from, to)`; where both are the same, it stays and only loses its close-on-exec flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) from: RawFd,
    pub(super) to: RawFd,
}

/// Puts `sources` at 3, 4, 5 and so on. `spare` is a number beyond them that nothing needs.
///
/// A place whose descriptor no other place waits for is free to be filled. What then is left are rings, in which each
/// place waits for the next; one of them is put aside, which opens the ring.
pub(super) fn plan(sources: &[RawFd], spare: RawFd) -> Vec<Move> {
    let mut plan = Plan::new(sources);
    for place in 0..sources.len() {
        plan.fill_while_free(place);
    }
    for place in 0..sources.len() {
        plan.open_ring(place, spare);
    }
    plan.moves
}

struct Plan<'a> {
    sources: &'a [RawFd],
    /// How many other places wait for the descriptor that is now at each place.
    waiting: Vec<usize>,
    filled: Vec<bool>,
    moves: Vec<Move>,
}

impl<'a> Plan<'a> {
    fn new(sources: &'a [RawFd]) -> Self {
        let count = sources.len();
        let mut plan = Self { sources, waiting: vec![0; count], filled: vec![false; count], moves: Vec::new() };
        for (place, source) in sources.iter().enumerate() {
            match plan.needed_by(place) {
                Some(other) => plan.waiting[other] += 1,
                None if *source == number(place) => plan.fill(place, *source),
                None => {}
            }
        }
        plan
    }

    /// The other place that has the descriptor which belongs at `place`.
    fn needed_by(&self, place: usize) -> Option<usize> {
        let other = usize::try_from(self.sources[place] - FIRST).ok()?;
        (other < self.sources.len() && other != place).then_some(other)
    }

    fn fill(&mut self, place: usize, from: RawFd) {
        self.moves.push(Move { from, to: number(place) });
        self.filled[place] = true;
    }

    /// Fills `place` if it is free, then the place that this has freed, and so on.
    fn fill_while_free(&mut self, mut place: usize) {
        while !self.filled[place] && self.waiting[place] == 0 {
            self.fill(place, self.sources[place]);
            let Some(other) = self.needed_by(place) else { return };
            self.waiting[other] -= 1;
            place = other;
        }
    }

    fn open_ring(&mut self, first: usize, spare: RawFd) {
        if self.filled[first] {
            return;
        }
        self.moves.push(Move { from: number(first), to: spare });
        let mut place = first;
        while let Some(next) = self.needed_by(place).filter(|next| *next != first) {
            self.fill(place, self.sources[place]);
            place = next;
        }
        self.fill(place, spare);
    }
}

fn number(place: usize) -> RawFd {
    // A table of descriptors is never as long as that.
    RawFd::try_from(place).map_or(RawFd::MAX, |place| place.saturating_add(FIRST))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const SPARE: RawFd = 1_000;

    /// What stands at 3.. afterwards, by the number it had before.
    fn result(sources: &[RawFd]) -> Vec<RawFd> {
        let mut table: HashMap<RawFd, RawFd> = (0..110).map(|fd| (fd, fd)).collect();
        for Move { from, to } in plan(sources, SPARE) {
            let file = table[&from];
            table.insert(to, file);
        }
        (0..sources.len()).map(|place| table[&number(place)]).collect()
    }

    #[test]
    fn every_descriptor_arrives_whatever_its_number() {
        for sources in [
            vec![],
            vec![3],
            vec![4],
            vec![3, 4, 5],
            vec![4, 3],
            vec![4, 5, 3],
            vec![5, 3, 4, 7, 6],
            vec![4, 5, 6, 7],
            vec![7, 6, 5, 4, 3],
            vec![5, 5, 5],
            vec![4, 3, 3, 4],
            vec![4, 4],
            vec![0, 1, 2],
            vec![100, 3, 50, 4],
            vec![4, 5, 3, 3, 100, 8],
        ] {
            assert_eq!(result(&sources), sources, "{:?}", plan(&sources, SPARE));
        }
    }

    #[test]
    fn every_arrangement_of_five_arrives() {
        let mut sources = [3; 5];
        for mut code in 0..6_u32.pow(5) {
            for source in &mut sources {
                *source = 3 + RawFd::try_from(code % 6).unwrap();
                code /= 6;
            }
            assert_eq!(result(&sources), sources);
        }
    }

    #[test]
    fn what_is_in_place_stays_and_a_ring_takes_one_move_more() {
        assert_eq!(plan(&[3], SPARE), [Move { from: 3, to: 3 }]);
        assert_eq!(plan(&[4, 5, 3], SPARE).len(), 4);
    }
}
