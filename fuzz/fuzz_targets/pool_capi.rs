//! The pool's C ABI against the model. A panic anywhere ends the run, also one that the C ABI would turn into a status.
#![no_main]

#[path = "../../tests/support/fuzz_script.rs"]
mod fuzz_script;
#[path = "../../tests/support/pool_capi.rs"]
mod pool_capi;
#[allow(dead_code)] // a run of one thread uses a part of it
#[path = "../../tests/support/pool_model.rs"]
mod pool_model;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    pool_capi::run(bytes);
});
