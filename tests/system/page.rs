//! The page in a real Chromium, on one node.

use std::{path::PathBuf, process::Command};

use common::page::{has_node, run, web};

#[test]
fn a_feed_has_everything_in_the_end() {
    run("tests/model.test.mjs", &[]);
}

#[test]
fn what_strangers_see() {
    run("tests/public.test.mjs", &[]);
}

#[test]
fn who_has_an_account() {
    run("tests/accounts.test.mjs", &[]);
}

#[test]
fn what_people_say_to_each_other() {
    run("tests/feed.test.mjs", &[]);
}

#[test]
#[ignore = "times a page, which an idle machine alone does"]
fn what_the_page_weighs() {
    run("tests/weight.test.mjs", &[]);
}

/// The files that are a part of the program are made of what stands in `web/`.
#[test]
fn the_built_files_are_up_to_date() {
    if !has_node("the comparison of the built files") {
        return;
    }
    let made = tempfile::TempDir::new().unwrap();
    let built = Command::new("node")
        .args(["node_modules/vite/bin/vite.js", "build", "--logLevel", "error", "--emptyOutDir", "--outDir"])
        .arg(made.path())
        .current_dir(web())
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
    let kept = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/net/page/built");
    let names = |folder: &std::path::Path| {
        let mut names: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(made.path()), names(&kept));
    for name in names(&kept) {
        let [new, old] = [made.path(), &kept].map(|folder| std::fs::read(folder.join(&name)).unwrap());
        assert!(new == old, "{} is not up to date: npm run build in web/", name.display());
    }
}
