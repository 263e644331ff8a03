//! A refused configuration as `{argument, value, allowed}`, from which Elixir makes an error.

use elixirscope::error::ConfigError;
use rustler::{Encoder, Env, Resource, ResourceArc, Term};

use crate::atoms;

/// `{argument, value, allowed}`.
pub fn refusal(error: ConfigError) -> (&'static str, u64, &'static str) {
    (error.argument, error.value, error.allowed)
}

/// `{:ok, resource}` or `{:error, {argument, value, allowed}}`.
pub fn created<'a, T: Resource>(env: Env<'a>, result: Result<T, ConfigError>) -> Term<'a> {
    match result {
        Ok(object) => (atoms::ok(), ResourceArc::new(object)).encode(env),
        Err(error) => (atoms::error(), refusal(error)).encode(env),
    }
}

/// `:ok` or `{:error, {argument, value, allowed}}`.
pub fn done<'a>(env: Env<'a>, result: Result<(), ConfigError>) -> Term<'a> {
    match result {
        Ok(()) => atoms::ok().encode(env),
        Err(error) => (atoms::error(), refusal(error)).encode(env),
    }
}

/// Narrows a number to the 32 bits that the core takes.
pub fn narrow(argument: &'static str, value: u64) -> Result<u32, ConfigError> {
    u32::try_from(value).map_err(|_| ConfigError { argument, value, allowed: "at most 2^32 - 1" })
}
