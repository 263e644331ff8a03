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
