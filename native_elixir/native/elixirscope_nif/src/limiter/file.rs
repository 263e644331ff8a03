//! A limiter in a file. Files may be slow, so these calls run apart from the normal schedulers.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use elixirscope::file::{LoadError, load_limiter, save_limiter};
use elixirscope::limiter::{LimiterConfig, RestoreError};
use rustler::{Atom, Binary, Encoder, Env, Error, ResourceArc, Term};

use super::{LimiterResource, policy};
use crate::atoms;
use crate::clock::ObjectClock;

/// `ok` or `{error, {io_failed, message}}`.
#[rustler::nif(schedule = "DirtyIo")]
fn limiter_save<'a>(
    env: Env<'a>,
    limiter: ResourceArc<LimiterResource>,
    path: Binary<'a>,
    wall_ns: u64,
) -> Term<'a> {
    match save_limiter(&limiter.core, path_of(&path), limiter.clock.now_ns(), wall_ns) {
        Ok(()) => atoms::ok().to_term(env),
        Err(error) => (atoms::error(), (atoms::io_failed(), error.to_string())).encode(env),
    }
}

/// `{ok, limiter}` or `{error, {io_failed | bad_snapshot | out_of_memory, message}}`.
#[rustler::nif(schedule = "DirtyIo")]
fn limiter_load<'a>(
    env: Env<'a>,
    path: Binary<'a>,
    full_policy: Atom,
    max_waiting: u64,
    clock: ObjectClock,
    wall_ns: u64,
) -> Result<Term<'a>, Error> {
    let full_policy = policy(full_policy).ok_or(Error::BadArg)?;
    let config = LimiterConfig { full_policy, ..LimiterConfig::default() };
    Ok(match load_limiter(path_of(&path), &config, clock.now_ns(), wall_ns) {
        Ok(core) => {
            let limiter = LimiterResource::new(core, max_waiting, clock);
            (atoms::ok(), ResourceArc::new(limiter)).encode(env)
        }
        Err(error) => {
            let reason = match &error {
                LoadError::Io(_) => atoms::io_failed(),
                LoadError::Restore(RestoreError::TooLarge { .. }) => atoms::out_of_memory(),
                LoadError::Restore(_) => atoms::bad_snapshot(),
            };
            (atoms::error(), (reason, error.to_string())).encode(env)
        }
    })
}

fn path_of<'p>(path: &'p Binary) -> &'p Path {
    Path::new(OsStr::from_bytes(path.as_slice()))
}
