//! The habits that review forgets: which way dependencies point, what the pure crates must not
//! know, licences, and that every file says what it is for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(root().join("Cargo.toml")).exec().unwrap()
}

/// The direct dependencies of a crate of ours, those of its tests left out.
fn dependencies(metadata: &Metadata, name: &str) -> BTreeSet<String> {
    let package = metadata.workspace_packages().into_iter().find(|p| p.name == name).unwrap();
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind == DependencyKind::Normal)
        .map(|dependency| dependency.name.clone())
        .collect()
}

/// All source files of ours.
fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["conflict", "protocol", "node", "sim", "tests"].map(|name| root().join(name)).into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 50, "the sources are looked for in the wrong place");
    files
}

#[test]
fn dependencies_point_one_way() {
    let metadata = metadata();
    let ours = ["conflict", "protocol", "node", "sim", "tests"];
    for (place, name) in ours.iter().enumerate() {
        let below: BTreeSet<&str> = ours[..place.min(3)].iter().copied().collect();
        for dependency in dependencies(&metadata, name) {
            assert!(
                !ours.contains(&dependency.as_str()) || below.contains(dependency.as_str()),
                "{name} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn the_pure_crates_know_no_world() {
    let metadata = metadata();
    for name in ["conflict", "protocol"] {
        for forbidden in [
            "tokio",
            "rusqlite",
            "quinn",
            "rustls",
            "rand",
            "getrandom",
            "chrono",
            "time",
            "notify",
        ] {
            assert!(
                !dependencies(&metadata, name).contains(forbidden),
                "{name} must not know {forbidden}"
            );
        }
        for file in sources() {
            if !file.starts_with(root().join(name).join("src")) {
                continue;
            }
            let text = std::fs::read_to_string(&file).unwrap();
            for word in
                ["SystemTime", "Instant::now", "SystemRandom", "std::fs", "std::net", "now_v7"]
            {
                assert!(!text.contains(word), "{} reaches for {word}", file.display());
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for file in sources() {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//!"), "{} does not open with //!", file.display());
    }
}

#[test]
fn no_file_is_dead() {
    let files = sources();
    let texts: Vec<String> =
        files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    for file in &files {
        let stem = file.file_stem().unwrap().to_str().unwrap();
        let inside = file.components().any(|part| part.as_os_str() == "src")
            && !file.components().any(|part| part.as_os_str() == "bin");
        let name = if stem == "mod" {
            file.parent().unwrap().file_name().unwrap().to_str().unwrap()
        } else {
            stem
        };
        if !inside || matches!(stem, "lib" | "main") {
            continue;
        }
        let declared = format!("mod {name};");
        let included = format!("#[path = \"{name}.rs\"]");
        assert!(
            texts.iter().any(|text| text.contains(&declared) || text.contains(&included)),
            "{} is no module of anything",
            file.display()
        );
    }
}

#[test]
fn licences_allow_what_ours_allows() {
    const ALLOWED: [&str; 14] = [
        "MIT",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD-1-Clause",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "Zlib",
        "CC0-1.0",
        "MIT-0",
        "Unicode-3.0",
        "Unlicense",
        "BSL-1.0",
        "CDLA-Permissive-2.0",
    ];
    for package in metadata().packages {
        let Some(licence) = &package.license else {
            panic!("{} names no licence", package.name);
        };
        // Any one of "A OR B"; all of "A AND B". Old crates write a slash for OR.
        let fine = licence.replace('/', " OR ").split(" OR ").any(|choice| {
            choice.trim_matches(|c| c == '(' || c == ')' || c == ' ').split(" AND ").all(|one| {
                ALLOWED.contains(&one.trim_matches(|c| c == '(' || c == ')' || c == ' '))
            })
        });
        assert!(fine, "{} is under {licence}", package.name);
    }
}

#[test]
fn each_dependency_is_justified() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        for dependency in &package.dependencies {
            assert!(
                dependency.path.is_some() || text.contains(&format!("`{}`", dependency.name)),
                "ARCHITECTURE.md has no line for {}",
                dependency.name
            );
        }
    }
}
