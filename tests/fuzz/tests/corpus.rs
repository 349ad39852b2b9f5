//! The corpus of the fuzz targets, replayed.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

use std::path::{Path, PathBuf};

use fuzz_inputs::TARGETS;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fuzz().join("corpus").join(target)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_input_of_the_corpus_is_read_without_a_panic() {
    for (name, target) in TARGETS {
        let inputs = inputs(name);
        assert!(inputs.len() >= 3, "{name} has {} inputs", inputs.len());
        for path in inputs {
            let input = std::fs::read(&path).unwrap();
            target(&input);
            // What a fuzzer does first: cut it, and change a byte.
            for end in 0..input.len().min(400) {
                target(&input[..end]);
            }
            for at in 0..input.len().min(400) {
                let mut changed = input.clone();
                changed[at] = changed[at].wrapping_add(1);
                target(&changed);
            }
        }
    }
}

#[test]
fn every_target_has_a_file_and_every_file_a_target() {
    let mut files: Vec<_> = std::fs::read_dir(fuzz().join("fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    files.sort();
    assert_eq!(files, TARGETS.map(|(name, _)| name));
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in files {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
