//! Faults on purpose, where they are built in.

use elixirscope::breaker::Faults;
use elixirscope::error::ConfigError;
use rustler::{Env, NifMap, ResourceArc, Term};

use super::BreakerResource;
use crate::refusal::done;

#[derive(NifMap)]
struct FaultOptions {
    failure_bp: u64,
    delay_bp: u64,
    delay_ns: u64,
    seed: u64,
}

impl FaultOptions {
    fn faults(&self) -> Result<Faults, ConfigError> {
        Ok(Faults {
            failure_bp: narrow("failure_bp", self.failure_bp)?,
            delay_bp: narrow("delay_bp", self.delay_bp)?,
            delay_ns: self.delay_ns,
            seed: self.seed,
        })
    }
}

#[rustler::nif]
fn breaker_inject_faults<'a>(
    env: Env<'a>,
    breaker: ResourceArc<BreakerResource>,
    options: FaultOptions,
) -> Term<'a> {
    done(env, options.faults().and_then(|faults| breaker.core.inject_faults(&faults)))
}

/// Narrows a number to the 32 bits that the core takes.
fn narrow(argument: &'static str, value: u64) -> Result<u32, ConfigError> {
    u32::try_from(value).map_err(|_| ConfigError { argument, value, allowed: "at most 2^32 - 1" })
}
