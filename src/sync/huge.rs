//! A boxed slice in huge pages.
//!
//! A look-up in a table of megabytes misses the processor's cache of page addresses nearly every time, and the walk through
//! the page tables then costs as much as the look-up, in a virtual machine more. Pages of two megabytes end that. Linux
//! gives them to aligned memory that asks for them, unless its administrator has turned them off; so a slice that fills
//! one is aligned and asks, and a smaller one is a box like any other.

use std::alloc::{Layout, alloc, dealloc};
use std::ptr::{NonNull, drop_in_place, slice_from_raw_parts_mut};

/// Bytes of a huge page on x86-64, and on other machines with pages of four kilobytes.
const HUGE_PAGE: usize = 2 << 20;

/// The largest share of a slice that is added to fill its last huge page is one of so many.
const MOST_PADDING: usize = 20;

/// A slice of fixed length on the heap.
#[derive(Debug)]
pub struct HugeBox<T> {
    start: NonNull<T>,
    length: usize,
}

#[allow(unsafe_code)]
impl<T> HugeBox<T> {
    /// `length` values made one after the other; `None` if there is no memory for them.
    pub fn new(length: usize, mut value: impl FnMut() -> T) -> Option<Self> {
        let layout = Self::layout(length)?;
        if layout.size() == 0 {
            return None;
        }
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { alloc(layout) }.cast::<T>())?;
        if layout.align() == HUGE_PAGE {
            // SAFETY: the range is this allocation's own, and advice on the size of its pages changes no content. A kernel
            // without huge pages refuses it, which changes nothing either.
            unsafe { libc::madvise(start.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
        }
        for index in 0..length {
            // SAFETY: the index is within the allocation. If `value` panics, what was written before leaks.
            unsafe { start.add(index).write(value()) };
        }
        Some(Self { start, length })
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        Self::layout(self.length).map_or(0, |layout| layout.size())
    }

    /// The last page is a huge one as well where that takes little more memory than the values need.
    fn layout(length: usize) -> Option<Layout> {
        let layout = Layout::array::<T>(length).ok()?;
        if layout.size() < HUGE_PAGE {
            return Some(layout);
        }
        let aligned = layout.align_to(HUGE_PAGE).ok()?;
        let padded = aligned.pad_to_align();
        Some(if padded.size() - aligned.size() <= aligned.size() / MOST_PADDING { padded } else { aligned })
    }
}

#[allow(unsafe_code)]
impl<T> AsRef<[T]> for HugeBox<T> {
    #[inline]
    fn as_ref(&self) -> &[T] {
        // SAFETY: `new` has filled the allocation with so many values, which live as long as it does.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

#[allow(unsafe_code)]
impl<T> Drop for HugeBox<T> {
    fn drop(&mut self) {
        // SAFETY: the values are dropped once, by their only owner, and the memory goes with the layout that it came by.
        unsafe {
            drop_in_place(slice_from_raw_parts_mut(self.start.as_ptr(), self.length));
            if let Some(layout) = Self::layout(self.length) {
                dealloc(self.start.as_ptr().cast(), layout);
            }
        }
    }
}

// SAFETY: it owns its values, like a box.
#[allow(unsafe_code)]
unsafe impl<T: Send> Send for HugeBox<T> {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl<T: Sync> Sync for HugeBox<T> {}

#[cfg(all(test, not(escope_model)))]
mod tests {
    use super::{HUGE_PAGE, HugeBox};
    use std::rc::Rc;

    #[test]
    fn every_value_is_there_and_is_dropped_once() {
        for length in [1, 3, HUGE_PAGE / size_of::<Rc<()>>(), HUGE_PAGE / 4] {
            let counted = Rc::new(());
            let values = HugeBox::new(length, || counted.clone()).unwrap();
            assert_eq!((values.as_ref().len(), Rc::strong_count(&counted)), (length, length + 1));
            let start = values.as_ref().as_ptr().addr();
            assert!(length < HUGE_PAGE / size_of::<Rc<()>>() || start % HUGE_PAGE == 0);
            drop(values);
            assert_eq!(Rc::strong_count(&counted), 1);
        }
    }

    #[test]
    fn the_last_page_is_filled_up_where_that_costs_little() {
        let bytes = |length| HugeBox::new(length, || 0_u8).unwrap().bytes();
        let two = 2 * HUGE_PAGE;
        assert_eq!(
            [1, HUGE_PAGE - 1, HUGE_PAGE, HUGE_PAGE + 1].map(bytes),
            [1, HUGE_PAGE - 1, HUGE_PAGE, HUGE_PAGE + 1]
        );
        assert_eq!([two - two / 16, two - two / 22, two].map(bytes), [two - two / 16, two, two]);
    }

    #[test]
    fn what_no_memory_can_hold_is_none() {
        assert!(HugeBox::new(0, || 0_u8).is_none());
        assert!(HugeBox::new(usize::MAX / 16, || 0_u128).is_none());
    }
}
