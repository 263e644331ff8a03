//! What the program gives to make, test and destroy connections.
//!
//! All of them get `userdata` first. Any thread may call them, several at the same time, each connection in one at a time.
//! They may call the pool, but not check out from it, and must not throw, longjmp, or return in a process that they
//! forked.

use std::ffi::c_void;

/// Makes a connection. It may block; it should give up at `deadline_ns`, by the clock of escope_clock_now_ns
/// (UINT64_MAX: none). It writes the connection and returns 0, or returns another number; then what it wrote is
/// not looked at. Any thread may call it, several at the same time. It may call the pool, but not check out from it. It must
/// not throw, longjmp, or return in a process that it forked.
pub type escope_pool_create_fn = Option<
    unsafe extern "C" fn(userdata: *mut c_void, deadline_ns: u64, connection: *mut *mut c_void) -> i32,
>;

/// Destroys a connection that nobody holds. It may block. Any thread may call it, several at the same time. It may
/// call the pool, but not check out from it. It must not throw, longjmp, or return in a process that it forked.
pub type escope_pool_destroy_fn =
    Option<unsafe extern "C" fn(userdata: *mut c_void, connection: *mut c_void)>;

/// Tests or resets a connection that nobody holds: 0 if it is fit for use, any other number if it is to be destroyed. It may
/// block; it should give up at `deadline_ns`, by the clock of escope_clock_now_ns (UINT64_MAX: none). Any thread may call
/// it, several at the same time. It may call the pool, but not check out from it. It must not throw, longjmp, or return in
/// a process that it forked.
pub type escope_pool_check_fn =
    Option<unsafe extern "C" fn(userdata: *mut c_void, connection: *mut c_void, deadline_ns: u64) -> i32>;

/// Hears of a lease that lasts longer than `leak_after_ns`, once. `leak` is the library's and ends with the call. Any thread
/// may call it, several at the same time; it must not block for long. It may call the pool, but not check out from it. It
/// must not throw, longjmp, or return in a process that it forked.
pub type escope_pool_leaked_fn =
    Option<unsafe extern "C" fn(userdata: *mut c_void, leak: *const escope_leak)>;

/// A lease that lasts too long.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct escope_leak {
    /// The connection on loan. It may be returned, and destroyed, while this is read: it is only good for its name.
    pub connection: *mut c_void,
    /// When it was lent, by the clock of escope_clock_now_ns.
    pub since_ns: u64,
    /// Who checked it out: the number that gettid(2) gave in that thread.
    pub holder: u64,
}

/// `create` of the program.
pub type CreateFn =
    unsafe extern "C" fn(userdata: *mut c_void, deadline_ns: u64, connection: *mut *mut c_void) -> i32;
/// `destroy` of the program.
pub type DestroyFn = unsafe extern "C" fn(userdata: *mut c_void, connection: *mut c_void);

/// The callbacks of one pool.
#[derive(Debug, Clone, Copy)]
pub struct Callbacks {
    /// Makes a connection.
    pub create: CreateFn,
    /// Destroys one.
    pub destroy: DestroyFn,
    /// Resets one that came back.
    pub reset: escope_pool_check_fn,
    /// Tests one.
    pub check: escope_pool_check_fn,
    /// Hears of leaks.
    pub leaked: escope_pool_leaked_fn,
    /// First argument of all.
    pub userdata: *mut c_void,
}

// SAFETY: the header demands callbacks that any thread may call at the same time, with their userdata.
unsafe impl Send for Callbacks {}
// SAFETY: as above.
unsafe impl Sync for Callbacks {}

impl Callbacks {
    /// A new connection, or why there is none.
    pub(super) fn create(&self, deadline_ns: u64) -> Result<*mut c_void, CreateError> {
        let mut connection = std::ptr::null_mut();
        // SAFETY: the program promised a function of this type for any thread; `connection` outlives the call.
        match unsafe { (self.create)(self.userdata, deadline_ns, &mut connection) } {
            0 if connection.is_null() => Err(CreateError::Null),
            0 => Ok(connection),
            code => Err(CreateError::Code(code)),
        }
    }

    /// Ends a connection that nobody holds and nobody will.
    pub(super) fn destroy(&self, connection: *mut c_void) {
        // SAFETY: the program promised a function of this type for any thread.
        unsafe { (self.destroy)(self.userdata, connection) }
    }

    /// Whether a connection could be reset; true without a callback for it.
    pub(super) fn reset(&self, connection: *mut c_void, deadline_ns: u64) -> bool {
        self.passes(self.reset, connection, deadline_ns)
    }

    /// Whether a connection is fit for use; true without a callback for it.
    pub(super) fn check(&self, connection: *mut c_void, deadline_ns: u64) -> bool {
        self.passes(self.check, connection, deadline_ns)
    }

    /// Tells of a leak.
    pub(super) fn leaked(&self, leak: &escope_leak) {
        if let Some(leaked) = self.leaked {
            // SAFETY: the program promised a function of this type for any thread; `leak` outlives the call.
            unsafe { leaked(self.userdata, leak) };
        }
    }

    fn passes(&self, test: escope_pool_check_fn, connection: *mut c_void, deadline_ns: u64) -> bool {
        // SAFETY: the program promised a function of this type for any thread.
        test.is_none_or(|test| unsafe { test(self.userdata, connection, deadline_ns) } == 0)
    }
}

/// Why `create` made no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateError {
    /// It returned this code.
    Code(i32),
    /// It returned 0, and no connection.
    Null,
}

/// Code in the core for [`CreateError::Null`]; above every `i32`.
const NULL_CONNECTION: u64 = 1 << 32;

impl From<CreateError> for u64 {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Code(code) => u64::from(code as u32),
            CreateError::Null => NULL_CONNECTION,
        }
    }
}

impl From<u64> for CreateError {
    fn from(code: u64) -> Self {
        if code == NULL_CONNECTION { Self::Null } else { Self::Code(code as u32 as i32) }
    }
}
