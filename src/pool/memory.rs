//! Tables that are set aside when a pool is made. Their size is the caller's choice, so want of memory is an answer,
//! not the end of the process.

use std::collections::TryReserveError;

/// A vector that takes `count` entries without allocating again.
pub(super) fn room<T>(count: usize) -> Result<Vec<T>, TryReserveError> {
    let mut room = Vec::new();
    room.try_reserve_exact(count)?;
    Ok(room)
}

/// A table of `count` entries.
pub(super) fn table<T>(count: usize, entry: impl FnMut() -> T) -> Result<Box<[T]>, TryReserveError> {
    let mut table = room(count)?;
    table.resize_with(count, entry);
    Ok(table.into_boxed_slice())
}

#[cfg(all(test, not(escope_model)))]
mod tests {
    use super::*;

    #[test]
    fn room_is_set_aside_for_all_entries() {
        let room = room::<u64>(100).unwrap();
        assert!(room.is_empty() && room.capacity() >= 100);
        assert!(super::room::<u64>(usize::MAX).is_err());
    }
}
