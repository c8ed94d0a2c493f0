#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rapace_shm_fuzz::functions::hub(data));
