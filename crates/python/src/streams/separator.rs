//! Where a message ends: at a separator, or at the first of several.

use crate::cpython::bytes;
use crate::cpython::object::{self, Obj, Ref};
use crate::cpython::{Fallible, Raised};

/// The separators of one `readuntil`: usually one.
#[derive(Debug)]
pub struct Separators {
    shortest: Ref,
    /// Longer ones, in order.
    others: Vec<Ref>,
}

/// Where a separator begins, and where it ends.
#[derive(Clone, Copy, Debug)]
pub struct Match {
    pub start: usize,
    pub end: usize,
}

impl Separators {
    /// From the argument of `readuntil`; none if it is for asyncio's own code to use or refuse.
    pub fn of(argument: &Obj, several: bool) -> Fallible<Option<Separators>> {
        if !several || !object::is_tuple(argument) {
            return Ok(is_usable(argument).then(|| Separators::single(argument)));
        }
        let mut separators = argument.items()?;
        if !separators.iter().all(|separator| is_usable(separator)) {
            return Ok(None);
        }
        if separators.is_empty() {
            return Err(Raised::value_error("Separator should contain at least one element"));
        }
        separators.sort_by_key(|separator| length(separator));
        let shortest = separators.remove(0);
        Ok(Some(Separators { shortest, others: separators }))
    }

    /// A single one, known to be usable.
    #[inline]
    pub fn single(separator: &Obj) -> Separators {
        Separators { shortest: separator.own(), others: Vec::new() }
    }

    /// The lengths of the shortest and of the longest.
    #[inline]
    pub fn lengths(&self) -> (usize, usize) {
        let longest = self.others.last().unwrap_or(&self.shortest);
        (length(&self.shortest), length(longest))
    }

    /// The match that ends first, at `offset` or behind it.
    pub fn find(&self, content: &[u8], offset: usize) -> Option<Match> {
        let rest = content.get(offset..)?;
        let mut first: Option<Match> = None;
        for separator in std::iter::once(&self.shortest).chain(&self.others) {
            let separator = bytes::of_exact(separator).unwrap_or_default();
            let start = match separator {
                [byte] => memchr::memchr(*byte, rest),
                _ => memchr::memmem::find(rest, separator),
            };
            let Some(start) = start.map(|start| start + offset) else { continue };
            let end = start + separator.len();
            if first.is_none_or(|first| end < first.end) {
                first = Some(Match { start, end });
            }
        }
        first
    }
}

fn is_usable(separator: &Obj) -> bool {
    bytes::of_exact(separator).is_some_and(|separator| !separator.is_empty())
}

fn length(separator: &Obj) -> usize {
    bytes::of_exact(separator).map_or(0, <[u8]>::len)
}
