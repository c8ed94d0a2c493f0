//! Writes the seeds of every function where libFuzzer looks for them: `corpus/NAME/seed-N`.

use std::fs::{create_dir_all, write};
use std::path::Path;

use rapace_shm_fuzz::functions::FUNCTIONS;

fn main() -> std::io::Result<()> {
    for function in FUNCTIONS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(function.name);
        create_dir_all(&folder)?;
        for (number, seed) in (function.seeds)().into_iter().enumerate() {
            write(folder.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
