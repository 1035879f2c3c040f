//! The short run: every input of the corpus, and seeded mutations of it, through every target. The same on every machine and
//! every compiler; libFuzzer (`make fuzz`) finds the inputs, this keeps them found.

use std::path::Path;

use fastrand::Rng;
use fuzz::TARGETS;

/// Mutations of each input of the corpus. All targets together take some seconds.
const ROUNDS: usize = 300;

/// Changes, takes out, doubles or adds some bytes.
fn mutate(rng: &mut Rng, input: &[u8]) -> Vec<u8> {
    const LOUD: [u8; 6] = [0, 1, 0x7f, 0x80, 0xfe, 0xff];
    let mut bytes = input.to_vec();
    for _ in 0..rng.usize(1..=8) {
        let at = rng.usize(0..=bytes.len());
        let end = bytes.len().min(at + rng.usize(0..=16));
        match rng.u8(0..6) {
            0 => bytes.insert(at, rng.u8(..)),
            1 if at < bytes.len() => bytes[at] = LOUD[rng.usize(..LOUD.len())],
            2 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(0..8),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let copy = bytes[at..end].to_vec();
                let to = rng.usize(0..=bytes.len());
                bytes.splice(to..to, copy);
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

#[test]
fn nothing_that_lies_makes_anything_panic() {
    for (name, target) in TARGETS {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(name);
        let mut files: Vec<_> = std::fs::read_dir(&dir)
            .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
            .map(|entry| entry.expect("an entry").path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no corpus");
        let mut rng = Rng::with_seed(0x5eed);
        let mut runs = 0;
        let mut run = |input: &[u8], from: &Path| {
            let result = std::panic::catch_unwind(|| target(input));
            if result.is_err() {
                let found = dir.join("found");
                std::fs::write(&found, input).expect("the input can be kept");
                panic!(
                    "{name} panics on a mutation of {}: kept as {}",
                    from.display(),
                    found.display()
                );
            }
            runs += 1;
        };
        for file in &files {
            let input = std::fs::read(file).expect("the corpus can be read");
            run(&input, file);
            for _ in 0..ROUNDS {
                run(&mutate(&mut rng, &input), file);
            }
        }
        #[expect(clippy::print_stdout, reason = "a verdict that is kept")]
        {
            println!("fuzz {name}: {runs} inputs, nothing panics");
        }
    }
}
