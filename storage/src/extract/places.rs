//! The entries of one archive in the order in which they lie in it.
//!
//! In come entries in the order of paths, which is that of the archive but for a few that were stored again later;
//! these few are found in a first run and put in their place during a second. Memory is bounded by how many there are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::archive::digest::Digest;
use crate::archive::manifest::{Entry, Place};
use crate::archive::reader::Archive;
use crate::chain::{Merge, Step};
use crate::snapshot::SnapshotError;

/// How far back an entry that lies later than its successors is looked for.
const WINDOW: usize = 4096;
/// Most entries that lie elsewhere than in their order.
const MAX_LATE: usize = 1 << 16;
/// Most bytes that these need.
const MAX_LATE_BYTES: usize = 16 << 20;
const UNORDERED: &str = "the manifest's places are in no order that this program writes";

/// Finds the entries that lie later than others that follow them.
#[derive(Default)]
pub(crate) struct Order {
    /// Ascending.
    recent: VecDeque<Place>,
    late: BTreeSet<Place>,
    /// The highest place that left the window.
    passed: Option<Place>,
}

impl Order {
    /// Takes the next entry in the order of paths. An error says what is wrong with its place.
    pub fn push(&mut self, entry: &Entry) -> Result<(), &'static str> {
        let Some(place) = entry.content.place() else {
            return Ok(());
        };
        while let Some(last) = self.recent.pop_back_if(|last| *last >= place) {
            if last == place {
                return Err("two lines of the manifest have one place");
            }
            self.late.insert(last);
        }
        if self.late.len() > MAX_LATE || self.passed.is_some_and(|passed| passed >= place) {
            return Err(UNORDERED);
        }
        self.recent.push_back(place);
        if self.recent.len() > WINDOW {
            self.passed = self.recent.pop_front();
        }
        Ok(())
    }

    /// The places of the entries out of order.
    pub fn finish(self) -> BTreeSet<Place> {
        self.late
    }
}

/// The entries of one archive of a chain, by place.
pub(crate) struct ByPlace<'chain> {
    archive: &'chain Archive,
    merge: Merge<'chain>,
    link: usize,
    late: BTreeSet<Place>,
    next: Option<(Place, Step)>,
    parked: BTreeMap<Place, Step>,
    parked_bytes: usize,
    last: Option<Place>,
}

impl<'chain> ByPlace<'chain> {
    /// `late` is what [`Order`] found for this link.
    pub fn new(
        archive: &'chain Archive,
        merge: Merge<'chain>,
        link: usize,
        late: BTreeSet<Place>,
    ) -> Result<Self, SnapshotError> {
        let mut entries = Self {
            archive,
            merge,
            link,
            late,
            next: None,
            parked: BTreeMap::new(),
            parked_bytes: 0,
            last: None,
        };
        entries.fill()?;
        Ok(entries)
    }

    /// Where the next entry lies.
    pub fn peek(&self) -> Option<Place> {
        let parked = self.parked.first_key_value().map(|(place, _)| *place);
        let next = self.next.as_ref().map(|(place, _)| *place);
        match (parked, next) {
            (Some(parked), Some(next)) => Some(parked.min(next)),
            (parked, next) => parked.or(next),
        }
    }

    /// The next entry.
    pub fn next_step(&mut self) -> Result<Option<(Place, Step)>, SnapshotError> {
        let Some(place) = self.peek() else {
            return Ok(None);
        };
        if self.last.is_some_and(|last| last >= place) {
            return Err(self.archive.hostile(UNORDERED));
        }
        self.last = Some(place);
        if let Some(step) = self.parked.remove(&place) {
            self.parked_bytes -= bytes_of(&step);
            return Ok(Some((place, step)));
        }
        let step = self.next.take();
        self.fill()?;
        Ok(step)
    }

    /// SHA-256 of the link's manifest, after the last entry.
    pub fn digest(&self) -> Option<Digest> {
        self.merge.digests().get(self.link).copied()
    }

    fn fill(&mut self) -> Result<(), SnapshotError> {
        while let Some(step) = self.merge.next_step()? {
            let Some(place) = step.entry.content.place() else {
                continue;
            };
            if step.link != self.link {
                continue;
            }
            if !self.late.contains(&place) {
                self.next = Some((place, step));
                return Ok(());
            }
            self.parked_bytes += bytes_of(&step);
            if self.parked_bytes > MAX_LATE_BYTES {
                return Err(self.archive.hostile(UNORDERED));
            }
            self.parked.insert(place, step);
        }
        Ok(())
    }
}

fn bytes_of(step: &Step) -> usize {
    step.entry.path.as_bytes().len() + size_of::<Step>() + 64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::manifest::{Attributes, Content, Time};
    use crate::archive::path::RelativePath;

    fn entry(member: u64) -> Entry {
        Entry {
            path: RelativePath::new("a").unwrap(),
            content: Content::Directory {
                attributes: Attributes {
                    mode: 0,
                    mtime: Time::default(),
                    ctime: Time::default(),
                    inode: 0,
                },
                place: Place { member, skip: 0 },
            },
        }
    }

    fn late(places: &[u64]) -> Result<Vec<u64>, &'static str> {
        let mut order = Order::default();
        for place in places {
            order.push(&entry(*place))?;
        }
        Ok(order.finish().iter().map(|place| place.member).collect())
    }

    #[test]
    fn entries_that_lie_later_are_found() {
        let table: [(&[u64], Result<Vec<u64>, _>); 5] = [
            (&[1, 2, 3], Ok(vec![])),
            (&[1, 2, 9, 3, 4], Ok(vec![9])),
            (&[1, 8, 9, 3, 10, 4], Ok(vec![8, 9, 10])),
            (&[1, 2, 2], Err("two lines of the manifest have one place")),
            (&[3, 2, 1], Ok(vec![2, 3])),
        ];
        for (places, expected) in table {
            assert_eq!(late(places), expected, "{places:?}");
        }
    }

    #[test]
    fn a_manifest_in_no_order_is_refused_in_bounded_memory() {
        let places: Vec<u64> = (10..10 + 2 * WINDOW as u64).chain([1]).collect();
        assert_eq!(late(&places), Err(UNORDERED));
    }
}
