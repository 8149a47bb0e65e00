//! The batches that processes write: how each is named, and what a process tells of its own.

use crate::store::log::Origin;

/// A batch of a process. Its rows carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BatchId {
    pub origin: Origin,
    /// From 1.
    pub number: u64,
}

/// Which batches of a process are settled: what was to be stored of them is, or never will be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The batch that was begun last.
    pub last: u64,
    /// All batches up to there are settled, but for `open`.
    up_to: u64,
    /// Batches that are not settled, in order.
    open: Vec<u64>,
}

impl BatchId {
    /// One cell: of two processes that write the same row, one is named as a whole.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.origin.to_be_bytes());
        bytes[8..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    /// Reads what [`Self::to_bytes`] makes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let [origin, number] = numbers(bytes)?[..] else { return None };
        Some(Self { origin, number })
    }
}

impl Told {
    /// How many batches are told to be open; those after them are not told of.
    const MOST_OPEN: usize = 64;

    /// `open`: in order.
    pub fn new(last: u64, open: impl IntoIterator<Item = u64>) -> Self {
        let mut open = open.into_iter();
        let told = open.by_ref().take(Self::MOST_OPEN).collect();
        let up_to = open.next().map_or(last, |next| next - 1);
        Self { last, up_to, open: told }
    }

    pub fn covers(&self, number: u64) -> bool {
        number <= self.up_to && self.open.binary_search(&number).is_err()
    }

    /// All batches up to there are settled.
    pub fn floor(&self) -> u64 {
        self.open.first().map_or(self.up_to, |first| first - 1)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let numbers = [self.last, self.up_to].into_iter().chain(self.open.iter().copied());
        numbers.flat_map(u64::to_be_bytes).collect()
    }

    /// Reads what [`Self::to_bytes`] makes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let numbers = numbers(bytes)?;
        let [last, up_to, open @ ..] = &numbers[..] else { return None };
        Some(Self { last: *last, up_to: *up_to, open: open.to_vec() })
    }
}

fn numbers(bytes: &[u8]) -> Option<Vec<u64>> {
    let (numbers, rest) = bytes.as_chunks::<8>();
    rest.is_empty().then(|| numbers.iter().copied().map(u64::from_be_bytes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survive_their_cells() {
        let batch = BatchId { origin: u64::MAX - 1, number: 7 };
        assert_eq!(BatchId::parse(&batch.to_bytes()), Some(batch));
        assert_eq!(BatchId::parse(&batch.to_bytes()[1..]), None);
        let told = Told::new(9, [3, 9]);
        assert_eq!(Told::parse(&told.to_bytes()), Some(told));
        assert_eq!(Told::parse(&[]), None);
    }

    #[test]
    fn what_is_open_or_not_told_of_is_not_settled() {
        let covered = |told: &Told| (1..=12).filter(|number| told.covers(*number)).collect::<Vec<_>>();
        let told = Told::new(10, [3, 10]);
        assert_eq!((covered(&told), told.floor()), (vec![1, 2, 4, 5, 6, 7, 8, 9], 2));
        let told = Told::new(10, []);
        assert_eq!((covered(&told), told.floor()), ((1..=10).collect(), 10));
        let many = Told::new(200, 2..=200);
        assert_eq!((covered(&many), many.floor()), (vec![1], 1));
        assert!(!many.covers(150) && !many.covers(201));
    }
}
