//! The connection pool in C: a blocking check-out for threads, over connections that the program makes.
//!
//! * [`options`] is the core's configuration as a flat struct, [`callbacks`] what the program gives, [`stats`] the snapshot.
//! * [`calls`] lends and takes back; [`waiter`] is the check-out of a program that waits in slices or in an event loop;
//!   [`admin`] is what somebody in charge may do.
//! * [`edge`] carries out what the core decides, [`checks`] what it has tested, [`desk`] is where threads wait,
//!   [`descriptor`] wakes an event loop, [`fork`] notices a child, [`holders`] knows whom a leak is to be told of.
//!
//! Life of a pool: the program's references are counted apart, and are one reference to the memory together. The
//! last `_free` closes the pool; the leases on loan, which the core counts anyway ([`Pool::abandon`]), are another, as a
//! statement keeps a closed SQLite database, and the last check-in ends it. In a forked child the last `_free` only drops memory.

pub mod admin;
pub mod callbacks;
pub mod calls;
mod checks;
mod descriptor;
mod desk;
mod edge;
mod fork;
mod holders;
pub mod options;
pub mod stats;
pub mod waiter;

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::callbacks::CreateError;
use self::calls::escope_lease;
use self::edge::{Edge, NoConnection};
use self::fork::Generation;
use self::options::escope_pool_options;
use super::boundary::{Failure, Out, Verdict, fail, guarded, input};
use super::handle;
use super::options as growing;
use super::status::escope_status;
use crate::pool::{Lease, Pool};
use crate::status::Status;
use crate::sync::monotonic_ns;

/// A connection pool. Opaque; shared by any number of threads of one process.
pub struct escope_pool {
    edge: Edge,
    home: Generation,
    users: AtomicUsize,
}

/// Makes a pool without connections; they are made when somebody asks for one.
///
/// Ownership: `*out` is one reference, the caller's; give it back with escope_pool_free. `options` stays the caller's
/// and is not needed after the call; its `userdata` is.
///
/// @param options how it behaves; `create` and `destroy` must be set.
/// @param out     receives the pool.
/// @return OK; INVALID_ARGUMENT naming the option; OUT_OF_MEMORY.
///
/// Thread safety: any thread, concurrently. Never blocks; allocates.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_new(
    options: *const escope_pool_options,
    out: *mut *mut escope_pool,
) -> escope_status {
    guarded(|| {
        // SAFETY: the caller gives NULL or a writable place.
        let out = unsafe { Out::required(out, "out") }?;
        // SAFETY: the caller gives NULL or a struct as large as it states.
        let options = unsafe { growing::read(options, "options") }?;
        let (callbacks, config) = (options.callbacks()?, options.config()?);
        // A valid configuration fails for want of memory only.
        let core = Pool::new(&config).map_err(|error| fail(Status::OutOfMemory, format_args!("{error}")))?;
        let home = Generation::watched()?;
        let edge = Edge::new(core, &config, callbacks);
        out.set(handle::give(escope_pool { edge, home, users: AtomicUsize::new(1) }));
        Ok(Status::Ok)
    })
}

/// Adds a reference.
///
/// Ownership: the result is a reference of its own, to be given back with escope_pool_free.
///
/// @param pool a pool, or NULL.
/// @return `pool`.
///
/// Thread safety: any thread, concurrently; also in a forked child. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_ref(pool: *mut escope_pool) -> *mut escope_pool {
    if !pool.is_null() {
        // SAFETY: the caller gives a live handle. Relaxed: who adds a reference has one already, and how it
        // passes on the new one is the program's synchronisation.
        unsafe { &*pool }.users.fetch_add(1, Ordering::Relaxed);
    }
    pool
}

/// Gives a reference back; the last one closes the pool.
///
/// Connections on loan stay with their holders: after the last escope_pool_free the pool may be used for
/// escope_pool_checkin only, until the last of them is back; each is destroyed when it comes. The memory ends
/// with the last lease. In a forked child nothing is destroyed; the child's copy of the memory is dropped.
///
/// Ownership: takes the caller's reference.
///
/// @param pool a pool; NULL does nothing.
///
/// Thread safety: any thread, but not concurrently with a call that relies on the same reference, a waiting
/// check-out among them: escope_pool_close ends those. May block: runs `destroy`.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_free(pool: *mut escope_pool) {
    if pool.is_null() {
        return;
    }
    guarded(|| {
        // SAFETY: the caller gives a reference that it owns, so the memory is alive.
        let this = unsafe { &*pool };
        // AcqRel: the last user sees all that the others did before they gave back theirs.
        if this.users.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(Status::Ok);
        }
        if this.home.is_current() {
            // SAFETY: this reference stands for all users, and there is none left; the new one is for all leases, which
            // may end before `abandon` returns.
            unsafe {
                let leases = handle::share(pool);
                let is_held = this.edge.abandon(monotonic_ns);
                end_of_leases(leases, !is_held);
                handle::release(pool);
            }
        } else {
            // SAFETY: the child's last user is gone, and the leases that keep the parent's pool alive are refused
            // here, so nothing refers to this copy.
            unsafe { handle::end(pool) };
        }
        Ok(Status::Ok)
    });
}

/// Writes a granted lease and its connection.
#[inline]
fn lend((granted, made): (Lease, *mut c_void), lease: &Out<escope_lease>, connection: &Out<*mut c_void>) {
    lease.set(granted.into());
    connection.set(made);
}

/// Gives the leases' reference back, if a check-in was the `last`.
///
/// # Safety
/// `last` is what the edge of `pool` said of a check-in.
#[inline]
unsafe fn end_of_leases(pool: *mut escope_pool, last: bool) {
    if last {
        // SAFETY: the reference that `escope_pool_free` took for all leases; the edge says so once.
        unsafe { handle::release(pool) };
    }
}

fn no_connection(reason: NoConnection) -> Verdict {
    match reason {
        NoConnection::Refused(refusal) => Ok(refusal.status()),
        NoConnection::CreateFailed(CreateError::Code(code)) => Err(fail(
            Status::CreateFailed,
            format_args!("`create` returned {code}, allowed is 0 with a connection"),
        )),
        NoConnection::CreateFailed(CreateError::Null) => Err(fail(
            Status::CreateFailed,
            format_args!("`create` returned 0 and `connection` is NULL, allowed is 0 with a connection"),
        )),
    }
}

fn foreign() -> Failure {
    fail(
        Status::Forked,
        format_args!("`pool` is a pool of the parent process, allowed is one made after the fork"),
    )
}

/// Borrows a pool in the process that made it.
///
/// # Safety
/// `pool` is NULL or a live handle, for `'a`.
unsafe fn at_home<'a>(pool: *const escope_pool) -> Result<&'a escope_pool, Failure> {
    // SAFETY: the caller's contract.
    let this: &escope_pool = unsafe { input(pool, "pool") }?;
    if this.home.is_current() {
        return Ok(this);
    }
    Err(foreign())
}

#[cfg(test)]
mod tests {
    use super::calls::escope_lease;
    use super::options::escope_pool_options;
    use super::stats::escope_pool_stats;
    use crate::capi::options::Growing;

    #[test]
    fn sizes_are_what_programs_were_compiled_with() {
        assert_eq!(size_of::<escope_pool_options>(), escope_pool_options::FIRST_SIZE);
        assert_eq!(size_of::<escope_pool_stats>(), escope_pool_stats::FIRST_SIZE);
        assert_eq!(size_of::<escope_lease>(), 24);
    }
}
