//! Structs that may grow: options (read) and statistics (written), both starting with `struct_size`.
//!
//! The caller says how large its struct is. The library reads or writes the smaller of that and what it
//! knows. Options: fields that the caller does not have keep their defaults, and what the library does not
//! know must be zero, else a newer header asks for something that this library would ignore in silence.
//! Statistics: what the library does not know is set to zero.

use std::ptr::NonNull;

use super::boundary::{Failure, check, invalid};

/// A size above this is an uninitialised field, not a future version.
const LARGEST: usize = 4096;

/// A struct that may grow.
///
/// # Safety
/// The type is `repr(C)`, its first field is `struct_size: usize`, it holds integers and pointers only, has
/// no padding, and every bit pattern of it is valid.
pub unsafe trait Growing: Copy + Default {
    /// Size of the struct in the first version that had it.
    const FIRST_SIZE: usize;

    /// Sets the first field.
    fn set_struct_size(&mut self, size: usize);
}

/// Checks a struct's size as its caller states it.
fn checked_size<T: Growing>(size: usize, argument: &str) -> Result<usize, Failure> {
    if (T::FIRST_SIZE..=LARGEST).contains(&size) {
        return Ok(size);
    }
    Err(invalid(argument, size, format_args!("{} to {LARGEST}", T::FIRST_SIZE)))
}

/// Checks a caller's struct and reads the size it states. The struct may be shorter than `T`, so no more than
/// its first field is touched.
///
/// # Safety
/// `pointer` is NULL or misaligned (both are refused), or it points to a struct that starts with a `usize`.
unsafe fn stated_size<T: Growing>(pointer: *const T, argument: &str) -> Result<usize, Failure> {
    check(pointer, argument)?;
    // SAFETY: not NULL and aligned for `T`, so for its first field too; initialised by the caller's contract.
    let size = unsafe { pointer.cast::<usize>().read() };
    checked_size::<T>(size, "struct_size")
}

/// Reads options; NULL gives the defaults.
///
/// # Safety
/// `pointer` is NULL, or it points to `struct_size` readable bytes that start with `struct_size`.
pub unsafe fn read<T: Growing>(pointer: *const T, argument: &str) -> Result<T, Failure> {
    let mut options = T::default();
    if pointer.is_null() {
        return Ok(options);
    }
    // SAFETY: not NULL, and the caller's struct starts with a `usize`.
    let size = unsafe { stated_size(pointer, argument) }?;
    let known = size.min(size_of::<T>());
    // SAFETY: `size` bytes are readable by the caller's contract and `known` is not above it.
    let tail = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>().add(known), size - known) };
    if let Some(at) = tail.iter().position(|&byte| byte != 0) {
        let value = format_args!("{size} with a non-zero byte at offset {}", known + at);
        let allowed = format_args!("{} bytes, and zeros after them", size_of::<T>());
        return Err(invalid("struct_size", value, allowed));
    }
    // SAFETY: `known` bytes are readable at `pointer` and fit into `options`, whose every bit pattern is
    // valid by the contract of `Growing`; the two are different objects.
    unsafe { (&raw mut options).cast::<u8>().copy_from_nonoverlapping(pointer.cast(), known) };
    Ok(options)
}

/// Fills a caller's struct with the defaults and its own size.
///
/// # Safety
/// `pointer` is NULL or misaligned (both are refused), or it points to `size` writable bytes.
pub unsafe fn init<T: Growing>(pointer: *mut T, size: usize, argument: &str) -> Result<(), Failure> {
    check(pointer, argument)?;
    let size = checked_size::<T>(size, "size")?;
    // SAFETY: not NULL and aligned; `size` bytes are writable by the caller's contract.
    unsafe { store(pointer, size, T::default()) };
    Ok(())
}

/// A caller's statistics struct, checked before the values are gathered.
#[derive(Debug)]
pub struct Report<T> {
    out: NonNull<T>,
    size: usize,
}

impl<T: Growing> Report<T> {
    /// Checks pointer and size.
    ///
    /// # Safety
    /// `pointer` is NULL or misaligned (both are refused), or it points to `struct_size` writable bytes that
    /// start with `struct_size`, for as long as the value lives.
    pub unsafe fn new(pointer: *mut T, argument: &str) -> Result<Self, Failure> {
        // SAFETY: the caller's contract.
        let size = unsafe { stated_size(pointer.cast_const(), argument) }?;
        // SAFETY: `stated_size` refused NULL.
        Ok(Self { out: unsafe { NonNull::new_unchecked(pointer) }, size })
    }

    /// Writes as much of `value` as the caller has room for, and zeros after what the library knows.
    pub fn set(&self, value: T) {
        // SAFETY: `size` bytes are writable and `out` is aligned by the contract of `new`.
        unsafe { store(self.out.as_ptr(), self.size, value) }
    }
}

/// # Safety
/// `size` bytes are writable at `out`.
unsafe fn store<T: Growing>(out: *mut T, size: usize, mut value: T) {
    value.set_struct_size(size);
    let known = size.min(size_of::<T>());
    let target = out.cast::<u8>();
    // SAFETY: `known <= size` bytes are writable at `target` by the caller's contract, and `value` has them.
    unsafe {
        target.copy_from_nonoverlapping((&raw const value).cast(), known);
        target.add(known).write_bytes(0, size - known);
    }
}
