//! `Buffer`: what came and has not been read.
//!
//! A chunk that comes when nothing is there is kept as it is, and read as it is if it is read whole. When more comes
//! before it is read, the bytes are moved together, into memory that grows by doubling and gives up its front when that
//! is most of it: no byte moves more than a few times, however small the pieces are.
//!
//! `reader._buffer` is a `bytearray` that programs read and change. It is made when somebody looks for the first time; from
//! then on it is what counts.

use std::cell::RefCell;

use crate::cpython::bytes::{self, Buffer as Memory};
use crate::cpython::object;
use crate::cpython::{Fallible, Obj, Ref, Slot, Visitor};

/// What came and has not been read.
#[derive(Debug, Default)]
pub struct Buffer {
    content: RefCell<Content>,
    /// The `bytearray`, or whatever a program has put in its place; `content` is empty then.
    shown: Slot,
}

#[derive(Debug, Default)]
enum Content {
    #[default]
    Nothing,
    /// A `bytes`, from `start` on.
    Chunk { chunk: Ref, start: usize },
    /// Several pieces, from `start` on.
    Joined { bytes: Vec<u8>, start: usize },
}

impl Content {
    fn rest(&self) -> &[u8] {
        match self {
            Content::Nothing => &[],
            Content::Chunk { chunk, start } => {
                bytes::of_exact(chunk).and_then(|content| content.get(*start..)).unwrap_or_default()
            }
            Content::Joined { bytes, start } => bytes.get(*start..).unwrap_or_default(),
        }
    }

    fn append(&mut self, more: &[u8]) {
        if let Content::Joined { bytes, start } = self {
            if *start > bytes.len() / 2 {
                bytes.drain(..*start);
                *start = 0;
            }
            bytes.extend_from_slice(more);
            return;
        }
        let mut bytes = self.rest().to_vec();
        bytes.extend_from_slice(more);
        *self = Content::Joined { bytes, start: 0 };
    }

    /// Takes `count` bytes off the front, which there are.
    fn skip(&mut self, count: usize) {
        let left = self.rest().len() - count;
        match self {
            _ if left == 0 => *self = Content::Nothing,
            Content::Nothing => {}
            Content::Chunk { start, .. } | Content::Joined { start, .. } => *start += count,
        }
    }
}

impl Buffer {
    /// Whether it is neither ours nor a plain `bytearray`: something that only asyncio's own code knows how to use.
    #[inline]
    pub fn is_strange(&self) -> bool {
        !self.shown.is_empty()
            && self.shown.get().is_none_or(|shown| bytes::with_array(&shown, |_| ()).is_none())
    }

    /// What `work`, which must not run Python, makes of the content.
    #[inline]
    pub fn with<R>(&self, work: impl FnOnce(&[u8]) -> R) -> R {
        if self.shown.is_empty() {
            return work(self.content.borrow().rest());
        }
        let shown = self.shown.get_or_none();
        bytes::with_array_or_none(&shown, |content| work(content.unwrap_or_default()))
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.with(<[u8]>::len)
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a chunk, which is a `bytes` and not empty.
    #[inline]
    pub fn push(&self, chunk: &Obj) -> Fallible<()> {
        if !self.shown.is_empty() {
            return self.extend_shown(chunk);
        }
        let mut content = self.content.borrow_mut();
        if let Content::Nothing = *content {
            *content = Content::Chunk { chunk: chunk.own(), start: 0 };
        } else {
            content.append(bytes::of_exact(chunk).unwrap_or_default());
        }
        Ok(())
    }

    /// Adds what `bytearray.extend` takes.
    pub fn extend(&self, data: &Obj) -> Fallible<()> {
        if !self.shown.is_empty() {
            return self.extend_shown(data);
        }
        match Memory::readable(data) {
            Ok(memory) => {
                if !self.shown.is_empty() {
                    // What was asked for its memory has looked meanwhile.
                    return self.extend_shown(data);
                }
                if memory.len() > 0 {
                    self.content.borrow_mut().append(memory.content());
                }
                Ok(())
            }
            Err(raised) => {
                raised.discard();
                let array = bytes::array(&[])?;
                array.call_method(&*object::interned(c"extend")?, &[data])?;
                self.push_array(&array)
            }
        }
    }

    /// Adds a `bytearray`, which nobody else has.
    fn push_array(&self, array: &Obj) -> Fallible<()> {
        if !self.shown.is_empty() {
            return self.extend_shown(array);
        }
        bytes::with_array(array, |content| self.content.borrow_mut().append(content));
        Ok(())
    }

    fn extend_shown(&self, data: &Obj) -> Fallible<()> {
        self.shown.get_or_none().call_method(&*object::interned(c"extend")?, &[data]).map(drop)
    }

    /// Takes out the first `count` bytes, or all if there are fewer.
    pub fn take(&self, count: usize) -> Fallible<Ref> {
        if self.shown.is_empty() {
            let mut content = self.content.borrow_mut();
            if let Content::Chunk { chunk, start: 0 } = &*content
                && count >= content.rest().len()
            {
                let chunk = chunk.clone();
                *content = Content::Nothing;
                return Ok(chunk);
            }
            let count = count.min(content.rest().len());
            let taken = bytes::bytes(&content.rest()[..count])?;
            content.skip(count);
            return Ok(taken);
        }
        let taken = self.with(|content| bytes::bytes(&content[..count.min(content.len())]))?;
        self.skip(count)?;
        Ok(taken)
    }

    /// Forgets the first `count` bytes, or all if there are fewer.
    pub fn skip(&self, count: usize) -> Fallible<()> {
        if self.shown.is_empty() {
            let mut content = self.content.borrow_mut();
            let count = count.min(content.rest().len());
            content.skip(count);
            return Ok(());
        }
        bytes::remove_front(&self.shown.get_or_none(), count.min(self.len()))
    }

    /// `_buffer`.
    pub fn show(&self) -> Fallible<Ref> {
        if let Some(shown) = self.shown.get() {
            return Ok(shown);
        }
        let array = bytes::array(self.content.borrow().rest())?;
        self.replace(array.clone());
        Ok(array)
    }

    /// `_buffer = …`.
    pub fn replace(&self, shown: Ref) {
        *self.content.borrow_mut() = Content::Nothing;
        self.shown.set(shown);
    }

    /// Empty, and not looked at.
    pub fn clear(&self) {
        *self.content.borrow_mut() = Content::Nothing;
        self.shown.clear();
    }

    pub fn traverse(&self, visitor: &mut Visitor<'_>) {
        visitor.slot(&self.shown);
    }
}
