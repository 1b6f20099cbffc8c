//! The world: who is where, and who sees whom.
//!
//! It is a plane of 65,536 by 65,536, divided into cells; one sees at most [`SIGHT_MAX`] others, the nearest of those
//! within [`SIGHT`]. A crowd in one place costs no more than that either: of those who could be seen, a bounded number is
//! looked at.
//!
//! Knows no sockets and no clock.

use super::wire::Position;

/// How far one sees: a quarter of the world.
pub const SIGHT: u16 = 16_384;

/// How many one sees at most: what fits in a datagram that every network carries in one piece (see `STATE_BYTES_MAX`).
pub const SIGHT_MAX: usize = 64;

/// How many are looked at, for one.
const LOOKED_AT_MAX: usize = 512;

/// Cells along each side; one is half as wide as one sees.
const CELLS: usize = 8;
const CELL: usize = 65_536 / CELLS;

/// Who is in each cell, for the time of a tick.
#[derive(Debug)]
pub(super) struct Map {
    cells: Vec<Vec<u32>>,
}

impl Default for Map {
    fn default() -> Self {
        Map { cells: vec![Vec::new(); CELLS * CELLS] }
    }
}

fn cell(at: Position) -> (usize, usize) {
    (usize::from(at.x) / CELL, usize::from(at.y) / CELL)
}

impl Map {
    /// Writes down where everybody is. They go by their place in that order.
    pub(super) fn draw(&mut self, positions: impl Iterator<Item = Position>) {
        self.cells.iter_mut().for_each(Vec::clear);
        for (index, at) in positions.enumerate() {
            let (column, row) = cell(at);
            self.cells[row * CELLS + column].push(index as u32);
        }
    }

    /// Whom `viewer` at this place sees, the nearest first: (distance squared, index). `turn` is another number each time,
    /// so that in a crowd others are looked at.
    pub(super) fn look(
        &self,
        viewer: usize,
        at: Position,
        turn: usize,
        position: impl Fn(usize) -> Position,
        seen: &mut Vec<(u64, u32)>,
    ) {
        seen.clear();
        let reach = usize::from(SIGHT).div_ceil(CELL);
        let (column, row) = cell(at);
        let far = u64::from(SIGHT) * u64::from(SIGHT);
        let rows = row.saturating_sub(reach)..(row + reach + 1).min(CELLS);
        let columns = || column.saturating_sub(reach)..(column + reach + 1).min(CELLS);
        let cells = rows.flat_map(|row| columns().map(move |column| row * CELLS + column));
        let count: usize = cells.clone().map(|cell| self.cells[cell].len()).sum();
        // Of too many, one in each `step`.
        let step = count.div_ceil(LOOKED_AT_MAX).max(1);
        for index in cells.flat_map(|cell| &self.cells[cell]).skip(turn % step).step_by(step) {
            let distance = at.from(position(*index as usize));
            if *index as usize != viewer && distance <= far {
                seen.push((distance, *index));
            }
        }
        if seen.len() > SIGHT_MAX {
            seen.select_nth_unstable(SIGHT_MAX);
            seen.truncate(SIGHT_MAX);
        }
        seen.sort_unstable();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_nearest_are_seen_and_nobody_who_is_too_far(
            places in prop::collection::vec((any::<u16>(), any::<u16>()), 1..400),
            viewer in any::<prop::sample::Index>(),
        ) {
            let places: Vec<Position> = places.iter().map(|(x, y)| Position { x: *x, y: *y }).collect();
            let viewer = viewer.index(places.len());
            let (mut map, mut seen) = (Map::default(), Vec::new());
            map.draw(places.iter().copied());
            map.look(viewer, places[viewer], 0, |index| places[index], &mut seen);
            let far = u64::from(SIGHT) * u64::from(SIGHT);
            let mut expected: Vec<(u64, u32)> = places
                .iter()
                .enumerate()
                .map(|(index, at)| (places[viewer].from(*at), index as u32))
                .filter(|(distance, index)| *index as usize != viewer && *distance <= far)
                .collect();
            expected.sort_unstable();
            expected.truncate(SIGHT_MAX);
            prop_assert_eq!(seen, expected);
        }
    }

    #[test]
    fn a_crowd_is_looked_at_in_turn() {
        let here = Position { x: 40_000, y: 40_000 };
        let (mut map, mut seen) = (Map::default(), Vec::new());
        map.draw((0..5000).map(|_| here));
        let mut met = std::collections::HashSet::new();
        for turn in 0..10 {
            map.look(0, here, turn, |_| here, &mut seen);
            assert_eq!(seen.len(), SIGHT_MAX);
            met.extend(seen.iter().map(|(_, index)| *index));
        }
        assert!(met.len() > 5 * SIGHT_MAX, "{}", met.len());
    }
}
