//! Faults on purpose, where they are built in.

use elixirscope::breaker::Faults;
use elixirscope::error::ConfigError;
use rustler::{Env, NifMap, ResourceArc, Term};

use super::BreakerResource;
use crate::refusal::{done, narrow};

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
