//! The fuzzer's way to [`property::extract`]: any bytes as a whole archive.
#![no_main]

use stockpredictor_storage_fuzz::property;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    property::extract(input);
});
