//! A range of rows of the shared ledger, had page by page, from either end.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use crate::ledger::store::Failure;

/// Rows of one page.
pub const PAGE_ROWS: usize = 512;

type Pair = (Vec<u8>, Vec<u8>);
pub type Edge = Bound<Vec<u8>>;

/// Rows in the order that was asked for.
#[derive(Debug)]
pub struct Page {
    rows: Vec<Pair>,
    /// The last key that it reaches, where there may be more behind it.
    reach: Option<Vec<u8>>,
}

impl Page {
    pub fn new(rows: Vec<Pair>) -> Self {
        let reach = rows.last().filter(|_| rows.len() >= PAGE_ROWS).map(|(key, _)| key.clone());
        Self { rows, reach }
    }

    /// With rows in place of these, as far as the page reaches: what lies beyond comes with the next one.
    pub fn over_written(
        self,
        from: &Edge,
        to: &Edge,
        backwards: bool,
        written: impl FnOnce(&Edge, &Edge) -> Vec<(Vec<u8>, Option<Vec<u8>>)>,
    ) -> Self {
        let written = match &self.reach {
            None => written(from, to),
            Some(reach) if backwards => written(&Bound::Included(reach.clone()), to),
            Some(reach) => written(from, &Bound::Included(reach.clone())),
        };
        if written.is_empty() {
            return self;
        }
        let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = self.rows.into_iter().collect();
        for (key, content) in written {
            match content {
                Some(content) => drop(rows.insert(key, content)),
                None => drop(rows.remove(&key)),
            }
        }
        let mut rows: Vec<Pair> = rows.into_iter().collect();
        if backwards {
            rows.reverse();
        }
        Self { rows, reach: self.reach }
    }
}

pub fn is_within(key: &[u8], from: &Edge, to: &Edge) -> bool {
    let after = match from {
        Bound::Included(low) => key >= low.as_slice(),
        Bound::Excluded(low) => key > low.as_slice(),
        Bound::Unbounded => true,
    };
    let before = match to {
        Bound::Included(high) => key <= high.as_slice(),
        Bound::Excluded(high) => key < high.as_slice(),
        Bound::Unbounded => true,
    };
    after && before
}

type Turn<'a> = Box<dyn Fn(&Edge, &Edge, bool) -> Result<Page, Failure> + 'a>;

/// Goes through a range page by page.
pub struct Pages<'a> {
    turn: Turn<'a>,
    /// What is left in the database.
    from: Edge,
    to: Edge,
    exhausted: bool,
    front: VecDeque<Pair>,
    /// The last row first.
    back: VecDeque<Pair>,
}

impl<'a> Pages<'a> {
    pub fn new(
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        turn: impl Fn(&Edge, &Edge, bool) -> Result<Page, Failure> + 'a,
    ) -> Self {
        let (from, to) = (from.map(<[u8]>::to_vec), to.map(<[u8]>::to_vec));
        Self { turn: Box::new(turn), from, to, exhausted: false, front: VecDeque::new(), back: VecDeque::new() }
    }

    fn step(&mut self, backwards: bool) -> Option<Result<Pair, Failure>> {
        loop {
            let ready = if backwards { self.back.pop_front() } else { self.front.pop_front() };
            if let Some(row) = ready {
                return Some(Ok(row));
            }
            if self.exhausted {
                // What the other end has read ahead.
                let row = if backwards { self.front.pop_back() } else { self.back.pop_back() };
                return row.map(Ok);
            }
            match (self.turn)(&self.from, &self.to, backwards) {
                Ok(page) => {
                    match page.reach {
                        Some(reach) if backwards => self.to = Bound::Excluded(reach),
                        Some(reach) => self.from = Bound::Excluded(reach),
                        None => self.exhausted = true,
                    }
                    let side = if backwards { &mut self.back } else { &mut self.front };
                    side.extend(page.rows);
                }
                Err(failure) => {
                    self.exhausted = true;
                    return Some(Err(failure));
                }
            }
        }
    }
}

impl Iterator for Pages<'_> {
    type Item = Result<Pair, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(false)
    }
}

impl DoubleEndedIterator for Pages<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn both_ends_meet_whatever_was_written_over_the_rows(
            stored in prop::collection::btree_map(0..3_000u16, any::<u8>(), 0..1_500),
            written in prop::collection::btree_map(0..3_000u16, any::<Option<u8>>(), 0..40),
            turns in prop::collection::vec(any::<bool>(), 0..1_700),
        ) {
            let (bytes, byte) = (|key: &u16| key.to_be_bytes().to_vec(), |value: &u8| vec![*value]);
            let pages = Pages::new(Bound::Unbounded, Bound::Unbounded, |from, to, backwards| {
                let rows = stored.iter().map(|(key, value)| (bytes(key), byte(value)));
                let mut rows: Vec<Pair> = rows.filter(|(key, _)| is_within(key, from, to)).collect();
                if backwards {
                    rows.reverse();
                }
                rows.truncate(PAGE_ROWS);
                Ok(Page::new(rows).over_written(from, to, backwards, |low, high| {
                    let all = written.iter().map(|(key, value)| (bytes(key), value.as_ref().map(byte)));
                    all.filter(|(key, _)| is_within(key, low, high)).collect()
                }))
            });
            let mut expected = stored.clone();
            for (key, value) in &written {
                match value {
                    Some(value) => drop(expected.insert(*key, *value)),
                    None => drop(expected.remove(key)),
                }
            }
            let mut expected: VecDeque<Pair> = expected.iter().map(|(key, value)| (bytes(key), byte(value))).collect();
            let mut pages = pages;
            for backwards in turns {
                let found = if backwards { pages.next_back() } else { pages.next() };
                let wanted = if backwards { expected.pop_back() } else { expected.pop_front() };
                prop_assert_eq!(found.transpose().unwrap(), wanted);
            }
            prop_assert_eq!(pages.map(Result::unwrap).collect::<Vec<_>>(), Vec::from(expected));
        }
    }
}
