//! NIFs of the hot path, entered without an allocation.
//!
//! `#[rustler::nif]` gathers the arguments of each call in a vector on the heap, which is two fifths of what a breaker's
//! two NIFs take. Here they are an array on the stack. All else is as there: the function is registered by its name, a
//! panic or an error is raised in the calling process, and what is returned is a term. A limiter's check, which takes
//! longer by itself, gains nothing by it.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustler::codegen_runtime::{c_int, c_uint, handle_nif_result};
use rustler::sys::{ErlNifEnv, ErlNifTerm};
use rustler::{Env, Nif, NifResult, Term};

/// A function that the BEAM may call; implemented by `hot_nif!`.
pub trait HotNif<const ARITY: usize> {
    const NAME: &'static CStr;

    fn call<'a>(env: Env<'a>, arguments: [Term<'a>; ARITY]) -> NifResult<Term<'a>>;
}

/// What the loader is told of it.
pub const fn nif<F: HotNif<ARITY>, const ARITY: usize>() -> Nif {
    Nif { name: F::NAME.as_ptr(), arity: ARITY as c_uint, flags: 0, raw_func: enter::<F, ARITY> }
}

/// # Safety
/// The BEAM calls it as the NIF that `nif` describes.
unsafe extern "C" fn enter<F: HotNif<ARITY>, const ARITY: usize>(
    process: *mut ErlNifEnv,
    _arity: c_int,
    arguments: *const ErlNifTerm,
) -> ErlNifTerm {
    // SAFETY: the environment is that of this call, which no term outlives: its lifetime is that of a local.
    let env = unsafe { Env::new(&process, process) };
    // SAFETY: a NIF gets as many terms as it was registered for, and they are of its environment.
    let arguments = std::array::from_fn(|index| unsafe { Term::new(env, *arguments.add(index)) });
    match catch_unwind(AssertUnwindSafe(|| F::call(env, arguments))) {
        Ok(Ok(term)) => term.as_c_arg(),
        failed => raise(env, failed),
    }
}

#[cold]
fn raise<'a>(env: Env<'a>, failed: std::thread::Result<NifResult<Term<'a>>>) -> ErlNifTerm {
    // SAFETY: the caller returns to the BEAM at once what this raises in its environment.
    unsafe { handle_nif_result(failed, env).apply(env) }
}

/// Registers a function `fn(Env<'a>, [Term<'a>; ARITY]) -> NifResult<Term<'a>>` as the NIF of its name.
macro_rules! hot_nif {
    ($function:ident, $arity:literal) => {
        const _: () = {
            struct Function;

            impl $crate::hot::HotNif<$arity> for Function {
                const NAME: &'static std::ffi::CStr = match std::ffi::CStr::from_bytes_with_nul(
                    concat!(stringify!($function), "\0").as_bytes(),
                ) {
                    Ok(name) => name,
                    Err(_) => unreachable!(),
                };

                #[inline]
                fn call<'a>(
                    env: rustler::Env<'a>,
                    arguments: [rustler::Term<'a>; $arity],
                ) -> rustler::NifResult<rustler::Term<'a>> {
                    $function(env, arguments)
                }
            }

            rustler::codegen_runtime::inventory::submit!($crate::hot::nif::<Function, $arity>());
        };
    };
}
pub(crate) use hot_nif;
