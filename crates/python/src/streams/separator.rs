//! Where a message ends: at a separator, or at the first of several.

use crate::cpython::bytes;
use crate::cpython::object::{self, Obj, Ref};
use crate::cpython::{Fallible, Raised};

/// The separators of one `readuntil`: usually one byte.
#[derive(Debug)]
pub enum Separators {
    Byte(u8),
    /// One that is longer, or several of any length.
    Any {
        shortest: Ref,
        /// The others, the longest last.
        others: Vec<Ref>,
    },
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
            return Ok(match bytes::of_exact(argument) {
                None | Some([]) => None,
                Some([byte]) => Some(Separators::Byte(*byte)),
                Some(_) => Some(Separators::Any { shortest: argument.own(), others: Vec::new() }),
            });
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
        Ok(Some(Separators::Any { shortest, others: separators }))
    }

    /// The lengths of the shortest and of the longest.
    #[inline]
    pub fn lengths(&self) -> (usize, usize) {
        match self {
            Separators::Byte(_) => (1, 1),
            Separators::Any { shortest, others } => {
                (length(shortest), length(others.last().unwrap_or(shortest)))
            }
        }
    }

    /// The match that ends first, at `offset` or behind it.
    #[inline]
    pub fn find(&self, content: &[u8], offset: usize) -> Option<Match> {
        let rest = content.get(offset..)?;
        let (shortest, others) = match self {
            Separators::Byte(byte) => {
                let start = offset + memchr::memchr(*byte, rest)?;
                return Some(Match { start, end: start + 1 });
            }
            Separators::Any { shortest, others } => (shortest, others),
        };
        let mut first: Option<Match> = None;
        for separator in std::iter::once(shortest).chain(others) {
            let separator = bytes::of_exact(separator).unwrap_or_default();
            let found = memchr::memmem::find(rest, separator);
            let Some(start) = found.map(|start| start + offset) else { continue };
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
