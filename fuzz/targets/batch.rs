#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| krocket_fuzz::batch(data));
