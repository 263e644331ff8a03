//! A place in the queue, through the C ABI.

use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::calls::{escope_pool_checkin, escope_pool_checkout};
use super::super::*;
use super::*;
use crate::pool::Phase;

static MADE: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn create(_: *mut c_void, _: u64, connection: *mut *mut c_void) -> i32 {
    let number = MADE.fetch_add(1, Ordering::Relaxed) + 1;
    // SAFETY: the library gives a writable place.
    unsafe { connection.write(number as *mut c_void) };
    0
}

unsafe extern "C" fn destroy(_: *mut c_void, _: *mut c_void) {}

fn pool_of_one() -> *mut escope_pool {
    let options = escope_pool_options {
        create: Some(create),
        destroy: Some(destroy),
        size: 1,
        max_overflow: 0,
        ..Default::default()
    };
    let mut pool = null_mut();
    // SAFETY: valid options and a writable place.
    assert_eq!(unsafe { escope_pool_new(&options, &mut pool) }, 0);
    pool
}

fn no_lease() -> escope_lease {
    Lease { pool: 0, slot: 0, epoch: 0 }.into()
}

fn waiting(pool: *const escope_pool) -> u32 {
    // SAFETY: a live handle.
    unsafe { &*pool }.edge.snapshot(monotonic_ns).waiting
}

const EXHAUSTED: i32 = Status::PoolExhausted as i32;
const INVALID: i32 = Status::InvalidArgument as i32;

#[test]
fn a_place_is_kept_between_slices_and_given_up_by_free() {
    let pool = pool_of_one();
    let (mut lease, mut second, mut connection) = (no_lease(), no_lease(), null_mut());
    let (mut maker, mut first, mut late) = (null_mut(), null_mut(), null_mut());
    // SAFETY: live handles and writable places throughout; each place is freed once.
    unsafe {
        let begin =
            |lease, connection, waiter| escope_pool_checkout_begin(pool, u64::MAX, lease, connection, waiter);
        assert_eq!(begin(&mut lease, &mut connection, &mut maker), EXHAUSTED);
        assert_eq!(escope_waiter_wait(maker, u64::MAX, &mut lease, &mut connection), 0);
        assert!(!connection.is_null());
        assert_eq!(escope_waiter_wait(maker, 0, &mut lease, &mut connection), INVALID);
        escope_waiter_free(maker);

        assert_eq!(begin(&mut second, &mut connection, &mut first), EXHAUSTED);
        assert_eq!(begin(&mut second, &mut connection, &mut late), EXHAUSTED);
        assert_eq!(escope_waiter_wait(first, 1, &mut second, &mut connection), EXHAUSTED);
        assert_eq!(waiting(pool), 2);
        assert_eq!(escope_pool_checkin(pool, &lease, 0), 0);
        // Granted while nobody looked, then given up: the next in the queue gets it.
        escope_waiter_free(first);
        assert_eq!(escope_waiter_wait(late, 0, &mut second, &mut connection), 0);
        escope_waiter_free(late);
        assert_eq!(escope_pool_checkin(pool, &second, 0), 0);
        assert_eq!((waiting(pool), (*pool).edge.snapshot(monotonic_ns).leased), (0, 0));
        escope_pool_free(pool);
    }
}

#[test]
fn a_wait_outlives_the_pool_and_ends_closed() {
    let pool = pool_of_one();
    let (mut lease, mut connection, mut waiter) = (no_lease(), null_mut(), null_mut());
    // SAFETY: as above.
    unsafe {
        assert_eq!(
            escope_pool_checkout_begin(pool, u64::MAX, &mut lease, &mut connection, &mut waiter),
            EXHAUSTED
        );
        escope_pool_free(pool);
        assert_eq!(
            escope_waiter_wait(waiter, u64::MAX, &mut lease, &mut connection),
            Status::PoolClosed as i32
        );
        escope_waiter_free(waiter);
    }
}

unsafe extern "C" fn fail(_: *mut c_void, _: u64, _: *mut *mut c_void) -> i32 {
    7
}

/// No connection is there or being made, so nothing but the end of the wait tells that the pool is empty.
#[test]
fn p24_a_wait_that_is_given_up_ends_the_drain_that_waited_for_it() {
    const LATER_NS: u64 = 3_600_000_000_000;
    let options = escope_pool_options {
        create: Some(fail),
        destroy: Some(destroy),
        create_backoff_ns: LATER_NS,
        create_backoff_cap_ns: LATER_NS,
        ..Default::default()
    };
    let (mut lease, mut connection, mut waiter) = (no_lease(), null_mut(), null_mut());
    let mut pool = null_mut();
    // SAFETY: live handles and writable places throughout; the place is freed once.
    unsafe {
        assert_eq!(escope_pool_new(&options, &mut pool), 0);
        let failed = escope_pool_checkout(pool, 0, &mut lease, &mut connection);
        assert_eq!(failed, Status::CreateFailed as i32);
        let queued = escope_pool_checkout_begin(pool, u64::MAX, &mut lease, &mut connection, &mut waiter);
        assert_eq!(queued, EXHAUSTED);
        let this = &*pool;
        std::thread::scope(|scope| {
            let drained = scope.spawn(|| this.edge.drain(LATER_NS / 360, monotonic_ns));
            while this.edge.snapshot(monotonic_ns).phase != Phase::Draining {
                std::thread::yield_now();
            }
            escope_waiter_free(waiter);
            assert!(drained.join().expect("a drain does not panic"), "its time-out ended it");
        });
        escope_pool_free(pool);
    }
}

#[test]
fn nonsense_gets_an_error() {
    let pool = pool_of_one();
    let (mut lease, mut connection, mut waiter) = (no_lease(), null_mut(), null_mut());
    // SAFETY: NULL is what is tried; the rest is valid.
    unsafe {
        let zero = escope_pool_checkout_begin(pool, 0, &mut lease, &mut connection, &mut waiter);
        assert_eq!(zero, INVALID);
        let no_place = escope_pool_checkout_begin(pool, 1, &mut lease, &mut connection, null_mut());
        assert_eq!(no_place, INVALID);
        assert_eq!(
            escope_waiter_wait(null::<escope_waiter>().cast_mut(), 1, &mut lease, &mut connection),
            INVALID
        );
        escope_waiter_free(null_mut());
        escope_pool_free(pool);
    }
}
