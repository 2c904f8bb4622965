//! The kept corpus of the fuzz targets, as it is and damaged: decoders read it or refuse it, and allocate no more than their
//! input justifies.

#[expect(unreachable_pub, reason = "a library for the fuzz targets")]
#[path = "../../../fuzz/src/decoders.rs"]
mod decoders;

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Bytes that may be allocated at once for each byte of input, which is read, written and read again: the smallest JSON of a
/// condition is three bytes, and becomes a struct of a hundred, in a vector that may be twice as large as it is full, and then
/// JSON with every field.
const FACTOR: u64 = 1024;
/// And for an input of nothing.
const BASE: u64 = 64 * 1024;

/// The inputs of a target.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let folder = fs::read_dir(folder.join(target)).expect("every target has a corpus");
    let paths = folder.map(|entry| entry.expect("the folder can be read").path());
    paths
        .map(|path| {
            let input = fs::read(&path).expect("the corpus can be read");
            (path, input)
        })
        .collect()
}

fn check(run: decoders::Target, input: &[u8], what: &dyn std::fmt::Display) {
    let used = allocation_counter::measure(|| run(input));
    let most = BASE + FACTOR * input.len() as u64;
    assert!(
        used.bytes_max <= most,
        "{what}: {} bytes of input took {} bytes at once",
        input.len(),
        used.bytes_max
    );
}

#[test]
fn the_corpus_is_read_or_refused() {
    for (target, run) in decoders::TARGETS {
        let inputs = corpus(target);
        assert!(!inputs.is_empty(), "{target} has a corpus");
        for (path, input) in inputs {
            check(*run, &input, &path.display());
        }
    }
}

#[test]
fn a_damaged_corpus_is_read_or_refused() {
    for (target, run) in decoders::TARGETS {
        let inputs: Vec<_> = corpus(target).into_iter().map(|(_, input)| input).collect();
        let damage = (
            prop::sample::select(inputs),
            any::<prop::sample::Index>(),
            any::<u8>(),
            any::<Option<prop::sample::Index>>(),
        );
        let config = Config {
            cases: 500,
            ..Config::default()
        };
        let result = TestRunner::new(config).run(&damage, |(mut input, at, byte, cut)| {
            if !input.is_empty() {
                let at = at.index(input.len());
                input[at] = byte;
                if let Some(cut) = cut {
                    input.truncate(cut.index(input.len()));
                }
            }
            check(*run, &input, target);
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{target}: {error}"));
    }
}

/// What grows most when it is read: many of the smallest things.
#[test]
fn crowds_take_no_more_than_they_justify() {
    let crowd = |before: &str, each: &str, after: &str| {
        let mut input = before.to_owned();
        input += &vec![each; 20_000].join(",");
        input + after
    };
    let bundle = |payload: String| format!("1\n\n\n\n{payload}");
    for (target, input) in [
        ("resync", crowd(r#"{"resourceVersions":["#, "{}", "]}")),
        ("resync", crowd(r#"{"statusHashes":["#, "{}", "]}")),
        ("structured", crowd("{", r#""":1"#, "}")),
        ("structured", crowd("[", "[", "")),
        ("mqtt", "\u{20}\u{2}\0\0".repeat(20_000)),
        ("bundle_spec", bundle(crowd(r#"{"manifests":["#, "1", "]}"))),
        (
            "bundle_status",
            bundle(crowd(r#"{"conditions":["#, "{}", "]}")),
        ),
        (
            "bundle_status",
            bundle(crowd(r#"{"resourceStatus":["#, "{}", "]}")),
        ),
        ("object", format!("\0{}", crowd(r#"{"spec":["#, "1", "]}"))),
        (
            "object",
            format!(
                "\0{}",
                crowd(r#"{"metadata":{"finalizers":["#, r#""""#, "]}}")
            ),
        ),
    ] {
        let (_, run) = decoders::TARGETS
            .iter()
            .find(|(name, _)| *name == target)
            .expect("the target is known");
        check(
            *run,
            input.as_bytes(),
            &format!("{target} {}…", &input[..40]),
        );
    }
}
