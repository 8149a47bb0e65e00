//! Files that the program makes are what it makes today.

use std::path::Path;

use common::rookery;

/// Compares a file of the repository with what `rookery config FLAG` prints.
fn check(file: &str, flag: &str) {
    let output = rookery(&["config", flag]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made = String::from_utf8(output.stdout).unwrap();
    let kept = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap_or_default();
    assert!(made == kept, "{file} is not up to date: cargo run -- config {flag} > {file}");
}

#[test]
fn the_example_configuration_is_up_to_date() {
    check("rookery.example.toml", "--example");
}

#[test]
fn the_reference_of_the_configuration_is_up_to_date() {
    check("docs/configuration.md", "--reference");
}

#[test]
fn the_reference_of_the_metrics_is_up_to_date() {
    check("docs/metrics.md", "--metrics");
}
