//! The breaker's C ABI against the model. A panic anywhere ends the run, also one that the C ABI would turn into a status.
#![no_main]

#[path = "../../tests/support/breaker_capi.rs"]
mod breaker_capi;
#[path = "../../tests/support/breaker_model.rs"]
mod breaker_model;
#[path = "../../tests/support/fuzz_script.rs"]
mod fuzz_script;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    breaker_capi::run(bytes);
});
