//! Stores that may only be read: whoever writes is told at once, and readers serve.

use super::serving::Server;
use super::{RECORDS, Ran, Store, brainy, ok, text};
use serde_json::Value;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Commands, run so that a folder may only be read: by its permissions, or as a mount.
struct Jail {
    name: &'static str,
    program: Vec<String>,
}

impl Jail {
    /// Every way that works on this machine; a word on those that do not.
    fn all(folder: &str) -> Vec<Jail> {
        let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        let mount = r#"mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@""#;
        let mount = ["unshare", "--mount", "sh", "-c", mount, folder];
        let jails = [("permissions", &[][..]), ("another user", &nobody), ("mount", &mount)];
        let jails = jails.map(|(name, program)| {
            let program = program.iter().map(|word| (*word).to_owned()).collect();
            Jail { name, program }
        });
        let (works, others): (Vec<_>, Vec<_>) =
            jails.into_iter().partition(|jail| jail.holds(folder));
        for Jail { name, .. } in others {
            // Past the test harness, which keeps what passing tests print to itself.
            let _ =
                writeln!(std::io::stderr(), "skipped: {name} cannot make a folder read-only here");
        }
        works
    }

    /// `command` in this jail.
    fn wrap(&self, command: &Command) -> Command {
        let words = self.program.iter().map(AsRef::as_ref).chain([command.get_program()]);
        let mut words = words.chain(command.get_args());
        let mut wrapped = Command::new(words.next().unwrap());
        wrapped.args(words).stdin(Stdio::null());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(name, value),
                None => wrapped.env_remove(name),
            };
        }
        wrapped
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.wrap(&brainy(args)).output().unwrap().into()
    }

    /// Whether programs run in it, and may read but not write.
    fn holds(&self, folder: &str) -> bool {
        let runs = self.wrap(&brainy(&["--version"])).output();
        let tries = |what: &str| {
            let mut sh = Command::new("sh");
            sh.args(["-c", what]);
            self.wrap(&sh).output().is_ok_and(|output| output.status.success())
        };
        runs.is_ok_and(|output| output.status.success())
            && tries(&format!("ls '{folder}'"))
            // It leaves nothing behind where it is allowed.
            && !tries(&format!("touch '{folder}/written' && rm '{folder}/written'"))
    }
}

/// Sets the permissions of everything in a folder.
fn allow(folder: &Path, files: u32, folders: u32) {
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set(folder, folders);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => allow(&path, files, folders),
            false => set(&path, files),
        }
    }
}

/// Every file and folder below a folder.
fn everything(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(everything(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

#[test]
fn a_folder_that_may_only_be_read_is_served_by_readers_only() {
    let store = Store::new();
    let folder = store.dir.path().join("store");
    let at = text(&folder);
    let file = store.file("in.jsonl", RECORDS);
    ok(&["import", &file, "--store", at]);
    ok(&["compact", "--store", at]);
    let more = store.file("more.jsonl", r#"{"id": "d", "vector": [0, 0, 1]}"#);
    ok(&["import", &more, "--store", at]);
    allow(store.dir.path(), 0o444, 0o555);
    let before = everything(&folder);
    for jail in Jail::all(at) {
        let name = jail.name;
        let listen = ["--listen", "127.0.0.1:0"];
        let serve = [&["serve", "--store", at, "--role", "reader"], &listen[..]].concat();
        let mut command = jail.wrap(&brainy(&serve));
        let mut server = Server::ready(command.stdout(Stdio::piped()).spawn().unwrap());
        let url = ["--url", &server.url];
        let found =
            ok(&[&["search", "--vector", "[0,0,1]", "-k", "4", "--json"], &url[..]].concat());
        let found: Value = serde_json::from_str(&found).unwrap();
        assert_eq!(found["results"].as_array().unwrap().len(), 4, "{name}: {found}");
        assert_eq!(found["results"][0]["id"], "d", "{name}");
        ok(&[&["export"], &url[..]].concat());
        let status = ok(&[&["cluster", "status"], &url[..]].concat());
        assert!(status.contains("unlisted") && status.contains("not listed"), "{name}: {status}");
        server.signal("-TERM");
        assert_eq!(server.child.wait().unwrap().code(), Some(0), "{name}");

        for role in ["writer", "hybrid"] {
            let ran = jail.run(&[&["serve", "--store", at, "--role", role], &listen[..]].concat());
            assert_eq!(ran.code, 1, "{name}: {}", ran.err);
            assert!(
                ran.err.contains("store_denied") && ran.err.contains("--role reader"),
                "{}",
                ran.err
            );
        }
        let ran = jail.run(&["import", &more, "--store", at]);
        assert!(ran.code == 1 && ran.err.contains("store_denied"), "{name}: {}", ran.err);
        let ran = jail.run(&["doctor", at, "--role", "reader"]);
        assert_eq!(ran.code, 0, "{name}: {}", ran.err);
        assert!(
            ran.out.contains("A reader can work") && ran.out.contains("not tried"),
            "{}",
            ran.out
        );
        let ran = jail.run(&["doctor", at, "--json"]);
        assert_eq!(ran.code, 1, "{name}: {}", ran.err);
        let report: Value = serde_json::from_str(&ran.out).unwrap();
        let word = |key: &str| report[key].as_bool();
        assert_eq!((word("reader"), word("writer")), (Some(true), Some(false)), "{report}");
        assert_eq!(everything(&folder), before, "{name}");
    }
    // Or the folder could not be removed.
    allow(store.dir.path(), 0o644, 0o755);
}

#[test]
fn the_doctor_of_a_reader_writes_nothing_where_it_may() {
    let store = Store::new();
    let file = store.file("in.jsonl", RECORDS);
    ok(&["import", &file, "--store", &store.url]);
    let folder = store.dir.path().join("store");
    let before = everything(&folder);
    let said = ok(&["doctor", &store.url, "--role", "reader", "--json"]);
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&report["reader"], &report["writer"], &report["safe"]),
        (&true.into(), &Value::Null, &Value::Null)
    );
    assert_eq!(everything(&folder), before);
    // What a reader cannot read is named.
    let manifest = before.iter().find(|path| path.ends_with("manifest.json")).unwrap();
    std::fs::remove_file(manifest).unwrap();
    std::os::unix::fs::symlink(&file, manifest).unwrap();
    let ran: Ran = super::run(&["doctor", &store.url, "--role", "reader"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("for the check") && ran.err.contains("symbolic link"), "{}", ran.err);
}
