//! [`Blocks`]: memory of tasks that have ended, for those to come.
//!
//! What must stay true: a block is in the list of the size that it was allocated with, and nobody else knows of it.

use std::alloc::{Layout, handle_alloc_error};
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;

use crate::sync::{alloc, dealloc};

/// Blocks are kept in so many sizes,
const CLASSES: usize = 64;
/// each larger by this than the one before,
const STEP: usize = 16;
/// and so many of each;
const KEEP: usize = 8192;
/// or so many, after a burst of tasks, until there is time to give them back: one burst often follows another, and to ask the
/// kernel for that memory again costs more than all else that is done to make a task.
const KEEP_MANY: usize = 131_072;

/// Which size of block is for this; `None` if none is kept.
#[inline]
const fn class(layout: Layout) -> Option<usize> {
    let class = (layout.size() - 1) / STEP;
    if class < CLASSES && layout.align() <= align_of::<u128>() { Some(class) } else { None }
}

/// What is really allocated for a layout.
const fn block_layout(layout: Layout) -> Layout {
    match class(layout) {
        Some(class) => class_layout(class, layout),
        None => layout,
    }
}

/// What is allocated for a size; the other one, were that too large for any memory.
const fn class_layout(class: usize, other: Layout) -> Layout {
    match Layout::from_size_align((class + 1) * STEP, align_of::<u128>()) {
        Ok(layout) => layout,
        Err(_) => other,
    }
}

/// Asks the allocator for a block.
#[cold]
pub(super) fn new_block(layout: Layout) -> NonNull<u8> {
    let layout = block_layout(layout);
    // SAFETY: a task's header alone has a size.
    let block = unsafe { alloc(layout) };
    NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Gives a block back to the allocator.
///
/// # Safety
///
/// It came from [`new_block`] with this layout, and is not used any more.
pub(super) unsafe fn free_block(block: NonNull<u8>, layout: Layout) {
    // SAFETY: as promised.
    unsafe { dealloc(block.as_ptr(), block_layout(layout)) };
}

#[derive(Debug)]
pub(super) struct Blocks {
    kept: RefCell<[Vec<NonNull<u8>>; CLASSES]>,
    /// So many of a size are kept,
    most: usize,
    /// and of one there are more now than are kept for long.
    many: Cell<bool>,
}

impl Blocks {
    /// `gives_back`: whether somebody calls [`Blocks::give_back`].
    pub(super) fn new(gives_back: bool) -> Self {
        let most = if gives_back { KEEP_MANY } else { KEEP };
        Blocks { kept: RefCell::new([const { Vec::new() }; CLASSES]), most, many: Cell::new(false) }
    }

    /// A block, if there is one.
    #[inline]
    pub(super) fn take(&self, layout: Layout) -> Option<NonNull<u8>> {
        self.kept.borrow_mut()[class(layout)?].pop()
    }

    /// Keeps a block. `false` if there are enough: then it was given back.
    ///
    /// # Safety
    ///
    /// It came from [`new_block`] with this layout, and is not used any more.
    #[inline]
    pub(super) unsafe fn keep(&self, block: NonNull<u8>, layout: Layout) -> bool {
        if let Some(class) = class(layout) {
            let kept = &mut self.kept.borrow_mut()[class];
            if kept.len() < KEEP {
                kept.push(block);
                return true;
            }
            if kept.len() < self.most {
                self.many.set(true);
                kept.push(block);
                return true;
            }
        }
        // SAFETY: as promised.
        unsafe { free_block(block, layout) };
        false
    }

    /// Gives those back that are not kept for long, and says how many.
    #[inline]
    pub(super) fn give_back(&self) -> usize {
        if self.many.replace(false) { self.shrink_to(KEEP) } else { 0 }
    }

    /// Gives all of them back, and says how many.
    pub(super) fn clear(&mut self) -> usize {
        self.shrink_to(0)
    }

    #[cold]
    fn shrink_to(&self, keep: usize) -> usize {
        let mut given = 0;
        for (class, kept) in self.kept.borrow_mut().iter_mut().enumerate() {
            let layout = class_layout(class, Layout::new::<u128>());
            for block in kept.drain(keep.min(kept.len())..) {
                // SAFETY: nobody else knows of it, and it is of this size.
                unsafe { dealloc(block.as_ptr(), layout) };
                given += 1;
            }
            kept.shrink_to(keep);
        }
        given
    }
}
