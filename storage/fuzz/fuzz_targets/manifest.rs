//! The fuzzer's way to [`property::manifest`]: any bytes as the lines of a manifest.
#![no_main]

use stockpredictor_storage_fuzz::property;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    property::manifest(input);
});
