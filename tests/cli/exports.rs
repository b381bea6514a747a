//! Where exports go: files, links, devices.

use super::{RECORDS, Store, fails, ok, text};
use std::os::unix::fs::{PermissionsExt, symlink};

#[test]
fn an_export_replaces_the_file_behind_a_link_and_never_a_device() {
    let store = Store::new();
    let file = store.file("in.jsonl", RECORDS);
    ok(&["import", &file, "--store", &store.url]);
    let expected = ok(&["export", "--store", &store.url]);
    let export = |to: &str| ok(&["export", "-o", to, "--store", &store.url]);
    let dir = store.dir.path();

    // As root, a rename would put a file in the place of the device.
    let is_device = || !std::fs::symlink_metadata("/dev/null").unwrap().is_file();
    export("/dev/null");
    assert!(is_device());
    assert_eq!(export("/dev/stdout"), expected);

    let (real, link, chain) = (dir.join("real"), dir.join("link"), dir.join("chain"));
    std::fs::write(&real, "before").unwrap();
    std::fs::set_permissions(&real, PermissionsExt::from_mode(0o600)).unwrap();
    symlink("real", &link).unwrap();
    symlink(&link, &chain).unwrap();
    export(text(&chain));
    assert!(link.is_symlink() && chain.is_symlink());
    assert_eq!(std::fs::read_to_string(&real).unwrap(), expected);
    assert_eq!(real.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    // A link to what is not there yet.
    symlink("new", dir.join("dangling")).unwrap();
    export(text(&dir.join("dangling")));
    assert_eq!(std::fs::read_to_string(dir.join("new")).unwrap(), expected);
    assert!(!dir.join("real.partial").exists() && !dir.join("new.partial").exists());

    symlink("round", dir.join("round")).unwrap();
    let err = fails(&["export", "-o", text(&dir.join("round")), "--store", &store.url], 1);
    assert!(err.contains("could not write"), "{err}");
    let err = fails(&["export", "-o", text(dir), "--store", &store.url], 1);
    assert!(err.contains("it is a folder"), "{err}");
    // A link of somebody else's beside the file is not followed.
    std::fs::write(dir.join("theirs"), "theirs").unwrap();
    symlink("theirs", dir.join("real.partial")).unwrap();
    fails(&["export", "-o", text(&real), "--store", &store.url], 1);
    assert_eq!(std::fs::read_to_string(dir.join("theirs")).unwrap(), "theirs");
}
