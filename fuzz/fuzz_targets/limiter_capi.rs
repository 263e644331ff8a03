//! The limiter's C ABI against the model. A panic anywhere ends the run, also one that the C ABI would turn into a status.
#![no_main]

#[path = "../../tests/support/fuzz_script.rs"]
mod fuzz_script;
#[path = "../../tests/support/limiter_capi.rs"]
mod limiter_capi;
#[path = "../../tests/support/limiter_oracle.rs"]
mod limiter_oracle;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    limiter_capi::run(bytes);
});
