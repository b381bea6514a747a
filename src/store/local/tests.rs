use super::*;
use crate::base::Env;
use crate::base::ids::CollectionName;
use crate::store::conformance::{self, Effort};
use crate::store::{ByteRange, DynStore, cas, get, paths};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

async fn open(root: &Path) -> LocalStore {
    LocalStore::open(root, false).await.unwrap()
}

fn absent() -> Precondition {
    Precondition::Absent
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_with_and_without_fsync() {
    let env = Env::system(1).unwrap();
    for fsync in [true, false] {
        let root = tempfile::tempdir().unwrap();
        let store = LocalStore::open(root.path(), fsync).await;
        let store: DynStore = Arc::new(store.unwrap());
        let passed = conformance::run(&store, &env, Effort::QUICK).await.unwrap();
        assert_eq!(passed.len(), 17);
        assert_eq!(fs::read_dir(root.path().join(".brainy/tmp")).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn keys_cannot_leave_the_folder() {
    let root = tempfile::tempdir().unwrap();
    let inside = root.path().join("inside");
    let store = open(&inside).await;
    for bad in [
        "",
        "..",
        "../x",
        "a/../../x",
        "/etc/passwd",
        "a//b",
        "a/",
        "./a",
        "a/./b",
        "a\0b",
        ".brainy/locks/00",
        ".brainy",
        "a\\..\\b",
    ] {
        let key = Key::raw(bad);
        assert!(store.put(&key, Bytes::from("x")).await.is_err(), "{bad}");
        let outcome = store.put_if(&key, Bytes::from("x"), absent()).await;
        assert!(matches!(outcome, PutOutcome::Failed(_)), "{bad}");
        assert!(get(&store, &key).await.is_err(), "{bad}");
        assert!(store.delete(&key).await.is_err(), "{bad}");
    }
    assert!(store.list(&Prefix::raw("../"), None, 10).await.is_err());
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    assert!(store.list(&Prefix::raw(""), None, 10).await.unwrap().objects.is_empty());
}

#[tokio::test]
async fn a_weak_etag_notices_changes_but_guards_no_write() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path()).await;
    let key = Key::raw("large");
    let strong = store.put(&key, vec![1; 1 << 20].into()).await.unwrap();
    let ranged = GetOptions { range: Some(ByteRange::Suffix(10)), if_none_match: None };
    let object = store.get(&key, ranged.clone()).await.unwrap();
    let object = object.required(&key).unwrap();
    assert!(object.etag.is_weak() && object.bytes.len() == 10);
    let condition = Precondition::Matches(object.etag.clone());
    let outcome = store.put_if(&key, Bytes::from("x"), condition).await;
    assert!(matches!(outcome, PutOutcome::Failed(_)), "{outcome:?}");
    for etag in [object.etag, strong] {
        let options = GetOptions { if_none_match: Some(etag), ..ranged.clone() };
        let before = store.get(&key, options.clone()).await.unwrap();
        assert!(matches!(before, Fetched::Unmodified), "{before:?}");
    }
}

/// Where the file is mapped and where it is read.
#[tokio::test]
async fn what_was_read_outlives_its_file() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path()).await;
    let key = Key::raw("large");
    for size in [(1 << 20) - 1, 1 << 20, (3 << 20) + 5] {
        let content = |seed: usize| -> Vec<u8> { (0..size).map(|at| (at * seed) as u8).collect() };
        store.put(&key, content(3).into()).await.unwrap();
        let first = get(&store, &key).await.unwrap().required(&key).unwrap();
        // Shorter, so that the old pages would be gone if the file itself had changed.
        let etag = store.put(&key, content(5)[..size / 2].to_vec().into()).await.unwrap();
        let second = get(&store, &key).await.unwrap().required(&key).unwrap();
        store.delete(&key).await.unwrap();
        assert!(matches!(get(&store, &key).await.unwrap(), Fetched::Missing));
        assert!(first.bytes == content(3), "{size}, after it was replaced");
        assert!(second.bytes == content(5)[..size / 2], "{size}, after it was deleted");
        assert!(second.etag == etag && first.etag != etag);
        let part = first.bytes.slice(7..size - 7);
        drop(first);
        assert!(part == content(3)[7..size - 7], "{size}, a part that outlives the whole");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn large_objects_are_mapped() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path()).await;
    for (name, size, mapped) in [("mapped", 1 << 20, true), ("copied", (1 << 20) - 1, false)] {
        let key = Key::raw(name);
        store.put(&key, vec![1; size].into()).await.unwrap();
        let _held = get(&store, &key).await.unwrap().required(&key).unwrap();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let path = root.path().canonicalize().unwrap().join(name);
        assert_eq!(maps.contains(&path.display().to_string()), mapped, "{name}");
    }
}

#[tokio::test]
async fn stale_temporary_files_are_removed_and_fresh_ones_kept() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join(".brainy/tmp");
    fs::create_dir_all(&folder).unwrap();
    for (name, age) in [("stale", 3_700), ("fresh", 3_500)] {
        let file = fs::File::create(folder.join(name)).unwrap();
        let now = fs::metadata(&folder).unwrap().modified().unwrap();
        file.set_modified(now - std::time::Duration::from_secs(age)).unwrap();
    }
    open(root.path()).await;
    assert!(!folder.join("stale").exists() && folder.join("fresh").exists());
}

#[tokio::test]
async fn a_store_whose_folder_is_gone_is_not_an_empty_store() {
    let root = tempfile::tempdir().unwrap();
    let inside = root.path().join("inside");
    let store = open(&inside).await;
    let key = Key::raw("a/b");
    store.put(&key, Bytes::from("x")).await.unwrap();
    fs::remove_dir_all(&inside).unwrap();
    let code = |result: Result<()>| result.unwrap_err().code();
    assert_eq!(code(get(&store, &key).await.map(drop)), Code::StoreNotFound);
    let put = store.put(&key, Bytes::from("x")).await.map(drop);
    assert_eq!(code(put), Code::StoreNotFound);
    let listed = store.list(&Prefix::raw(""), None, 10).await.map(drop);
    assert_eq!(code(listed), Code::StoreNotFound);
    // Emptied, on the other hand, is empty; and it can be written again.
    fs::create_dir(&inside).unwrap();
    assert!(matches!(get(&store, &key).await.unwrap(), Fetched::Missing));
    store.put(&key, Bytes::from("x")).await.unwrap();
}

#[tokio::test]
async fn a_file_in_the_place_of_the_folder_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "x").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = LocalStore::open(path, false).await.unwrap_err();
        assert_eq!(error.code(), Code::StoreNotFound, "{error}");
    }
}

#[tokio::test]
async fn pages_of_a_large_folder_start_where_they_are_asked_to() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("wal");
    fs::create_dir(&folder).unwrap();
    for index in 0..5_000 {
        fs::write(folder.join(format!("{index:020}.wal")), "").unwrap();
    }
    let store = open(root.path()).await;
    let after = Key::raw(format!("wal/{:020}.wal", 4_990));
    let listing = store.list(&Prefix::raw("wal/"), Some(&after), 5).await.unwrap();
    let first = listing.objects[0].key.as_str();
    assert_eq!(first, format!("wal/{:020}.wal", 4_991));
    assert!(listing.more && listing.objects.len() == 5);
}

/// Independently opened stores share nothing but the folder, as processes do.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn independent_handles_lose_no_update() {
    let root = tempfile::tempdir().unwrap();
    let env = Env::system(1).unwrap();
    let key = Key::raw("counter");
    open(root.path()).await.put(&key, Bytes::from("0")).await.unwrap();
    let handles = (0..8).map(|_| {
        let (path, key) = (root.path().to_owned(), key.clone());
        env.tasks.spawn("racer", async move {
            let store = open(&path).await;
            for _ in 0..25 {
                increment(&store, &key).await;
            }
        })
    });
    futures::future::join_all(handles).await;
    let object = get(&open(root.path()).await, &key).await.unwrap();
    assert_eq!(object.required(&key).unwrap().bytes, "200");
}

/// Adds one, and returns the new number.
async fn increment(store: &LocalStore, key: &Key) -> u64 {
    loop {
        let object = get(store, key).await.unwrap().required(key).unwrap();
        let number = std::str::from_utf8(&object.bytes).unwrap().parse::<u64>().unwrap() + 1;
        let condition = Precondition::Matches(object.etag);
        match store.put_if(key, number.to_string().into(), condition).await {
            PutOutcome::Won(_) => return number,
            PutOutcome::Lost => {}
            other => panic!("{other:?}"),
        }
    }
}

const CHILD: &str = "BRAINY_TEST_LOCAL_STORE";

/// Not a test of its own: the process that the next test starts and kills.
#[tokio::test]
async fn child_process() {
    let Ok(root) = std::env::var(CHILD) else {
        return;
    };
    let store = LocalStore::open(root, true).await.unwrap();
    let counter = Key::raw("counter");
    for round in 0..200 {
        println!("acknowledged counter {}", increment(&store, &counter).await);
        let entry = Key::raw(format!("wal/{round:020}.wal"));
        let body = Bytes::from(std::process::id().to_string());
        if let PutOutcome::Won(_) = store.put_if(&entry, body, absent()).await {
            println!("acknowledged entry {round} {}", std::process::id());
        }
    }
}

#[tokio::test]
async fn killed_processes_lose_nothing_that_they_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path()).await;
    let counter = Key::raw("counter");
    store.put(&counter, Bytes::from("0")).await.unwrap();
    let start = || -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::local::tests::child_process", "--nocapture"])
            .env(CHILD, root.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut acknowledged = Vec::new();
    let mut children: Vec<Child> = (0..3).map(|_| start()).collect();
    // The first is killed in the middle of its work, and a fourth starts.
    let mut victim = children.remove(0);
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    acknowledged.extend(lines.by_ref().map(Result::unwrap).take(40));
    victim.kill().unwrap();
    acknowledged.extend(lines.map_while(Result::ok));
    victim.wait().unwrap();
    children.push(start());
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        acknowledged.extend(text.lines().map(str::to_owned));
    }
    check(&store, &acknowledged, &counter).await;
}

async fn check(store: &LocalStore, acknowledged: &[String], counter: &Key) {
    let mut counted = Vec::new();
    let mut entries = 0;
    for line in acknowledged {
        // The test harness writes its own lines, and may put them in front of ours.
        let words: Vec<&str> = match line.split_once("acknowledged ") {
            Some((_, rest)) => rest.split(' ').collect(),
            None => continue,
        };
        match words[..] {
            ["counter", number] => counted.push(number.parse::<u64>().unwrap()),
            ["entry", round, owner] => {
                let key = Key::raw(format!("wal/{:020}.wal", round.parse::<u64>().unwrap()));
                let object = get(store, &key).await.unwrap().required(&key).unwrap();
                assert_eq!(object.bytes, owner.as_bytes(), "{key} has another owner");
                entries += 1;
            }
            _ => panic!("{line}"),
        }
    }
    // 3 complete processes; the victim may have got one more through than it could tell of.
    let total = counted.len() as u64;
    counted.sort_unstable();
    counted.dedup();
    assert_eq!(counted.len() as u64, total, "a number was given out twice");
    assert!(total >= 600 && entries >= 199, "{total} {entries}");
    let object = get(store, counter).await.unwrap().required(counter).unwrap();
    let last: u64 = std::str::from_utf8(&object.bytes).unwrap().parse().unwrap();
    assert!(last == total || last == total + 1, "{last} after {total}");
    let listing = store.list(&Prefix::raw("wal/"), None, 1000).await.unwrap();
    assert_eq!(listing.objects.len(), 200);
}

/// A disk whose next flushes fail.
#[derive(Debug, Default)]
struct Failing {
    files: AtomicU32,
    folders: AtomicU32,
    /// Folders that were flushed.
    flushed: AtomicU32,
}

fn fails(left: &AtomicU32) -> std::io::Result<()> {
    let less = |left: u32| left.checked_sub(1);
    match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
        Ok(_) => Err(std::io::Error::other("the disk failed")),
        Err(_) => Ok(()),
    }
}

impl Disk for Arc<Failing> {
    fn flush_file(&self, file: &fs::File) -> std::io::Result<()> {
        fails(&self.files)?;
        file.sync_all()
    }

    fn flush_folder(&self, _: &Path) -> std::io::Result<()> {
        fails(&self.folders)?;
        self.flushed.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// A store whose folders for `k/...` are there and flushed.
async fn failing(root: &Path) -> (LocalStore, Arc<Failing>) {
    let disk = Arc::<Failing>::default();
    let store = LocalStore::open_on(root.to_owned(), true, Box::new(disk.clone())).await.unwrap();
    store.put(&Key::raw("k/first"), Bytes::from("x")).await.unwrap();
    (store, disk)
}

#[tokio::test]
async fn a_file_that_could_not_be_flushed_is_not_there() {
    let root = tempfile::tempdir().unwrap();
    let (store, disk) = failing(root.path()).await;
    let key = Key::raw("k/file");
    disk.files.store(2, Ordering::SeqCst);
    let outcome = store.put_if(&key, Bytes::from("x"), absent()).await;
    assert!(matches!(&outcome, PutOutcome::Failed(error) if error.is_transient()), "{outcome:?}");
    assert!(store.put(&key, Bytes::from("x")).await.is_err());
    assert!(matches!(get(&store, &key).await.unwrap(), Fetched::Missing));
    assert_eq!(fs::read_dir(root.path().join(".brainy/tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_name_that_could_not_be_flushed_is_believed_once_a_fresh_copy_was() {
    let root = tempfile::tempdir().unwrap();
    let (store, disk) = failing(root.path()).await;
    let first = get(&store, &Key::raw("k/first")).await.unwrap();
    let first = first.required(&Key::raw("k/first")).unwrap().etag;
    let cases = [("k/new", absent()), ("k/first", Precondition::Matches(first))];
    for (key, condition) in cases {
        let key = Key::raw(key);
        disk.folders.store(2, Ordering::SeqCst);
        let outcome = store.put_if(&key, Bytes::from("next"), condition).await;
        assert!(matches!(outcome, PutOutcome::Ambiguous(_)), "{outcome:?}");
        // The file can be read; but whoever asks is not told what the page cache holds.
        assert_eq!(fs::read(root.path().join(key.as_str())).unwrap(), b"next");
        let error = get(&store, &key).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        // Now the disk is well again.
        let before = disk.flushed.load(Ordering::SeqCst);
        let found = get(&store, &key).await.unwrap().required(&key).unwrap();
        assert_eq!(found.bytes, "next");
        assert_eq!(disk.flushed.load(Ordering::SeqCst), before + 1);
        get(&store, &key).await.unwrap();
        assert_eq!(disk.flushed.load(Ordering::SeqCst), before + 1);
    }
}

/// What another process wrote and this one read is not acknowledged after a flush that failed.
#[tokio::test]
async fn what_others_wrote_survives_once_it_is_settled() {
    let root = tempfile::tempdir().unwrap();
    let (store, disk) = failing(root.path()).await;
    let (key, before) = (Key::raw("k/first"), disk.flushed.load(Ordering::SeqCst));
    store.settle(&key).await.unwrap();
    assert_eq!(disk.flushed.load(Ordering::SeqCst), before + 1);
    disk.folders.store(1, Ordering::SeqCst);
    assert!(store.settle(&key).await.unwrap_err().is_transient());
    // A fresh copy, and its name.
    let before = disk.flushed.load(Ordering::SeqCst);
    store.settle(&key).await.unwrap();
    assert_eq!(disk.flushed.load(Ordering::SeqCst), before + 2);
}

#[tokio::test]
async fn a_deletion_that_could_not_be_flushed_is_not_done_by_its_repeat() {
    let root = tempfile::tempdir().unwrap();
    let (store, disk) = failing(root.path()).await;
    let key = Key::raw("k/first");
    disk.folders.store(2, Ordering::SeqCst);
    assert!(store.delete(&key).await.is_err());
    assert!(store.delete(&key).await.is_err());
    let before = disk.flushed.load(Ordering::SeqCst);
    store.delete(&key).await.unwrap();
    assert_eq!(disk.flushed.load(Ordering::SeqCst), before + 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_failing_disk_took_is_not_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let (store, disk) = failing(root.path()).await;
    let env = Env::system(1).unwrap();
    let (key, ours) = (Key::raw("k/entry"), |bytes: &[u8]| bytes == b"entry");
    disk.folders.store(u32::MAX, Ordering::SeqCst);
    let created = cas::create(&store, &env, &key, "entry".into(), 5, ours).await;
    assert!(created.is_err_and(|error| error.is_ambiguous()));
    disk.folders.store(1, Ordering::SeqCst);
    let key = Key::raw("k/another");
    let created = cas::create(&store, &env, &key, "entry".into(), 5, ours).await;
    assert!(matches!(created, Ok(cas::Created::Won)));
    // A folder that could not be flushed is made anew.
    disk.folders.store(1, Ordering::SeqCst);
    let key = Key::raw("folder/entry");
    assert!(store.put(&key, Bytes::from("x")).await.is_err());
    assert!(!root.path().join("folder").exists());
    store.put(&key, Bytes::from("x")).await.unwrap();
}

#[tokio::test]
async fn what_only_its_writer_needs_is_not_flushed() {
    let root = tempfile::tempdir().unwrap();
    let (store, disk) = failing(root.path()).await;
    let key = paths::wal_waiting(&CollectionName::new("c").unwrap(), 7);
    store.put(&key, Bytes::from("first")).await.unwrap();
    let before = disk.flushed.load(Ordering::SeqCst);
    disk.files.store(1, Ordering::SeqCst);
    store.put(&key, Bytes::from("second")).await.unwrap();
    let found = get(&store, &key).await.unwrap().required(&key).unwrap();
    assert_eq!(found.bytes, "second");
    store.delete(&key).await.unwrap();
    assert_eq!(disk.flushed.load(Ordering::SeqCst), before);
    // Nothing else is spared.
    store.put(&Key::raw("k/second"), Bytes::from("x")).await.unwrap_err();
}

#[cfg(unix)]
#[tokio::test]
async fn links_lead_nowhere() {
    use std::os::unix::fs::symlink;
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(root.path()).await;
    store.put(&Key::raw("a/own"), Bytes::from("own")).await.unwrap();
    fs::write(outside.path().join("secret"), "outside").unwrap();
    symlink(outside.path(), root.path().join("a/dir")).unwrap();
    symlink(outside.path().join("secret"), root.path().join("a/file")).unwrap();
    symlink(outside.path().join("nothing"), root.path().join("a/dangling")).unwrap();
    for name in ["a/dir/secret", "a/file", "a/dangling", "a/dir/new"] {
        let key = Key::raw(name);
        let body = || Bytes::from("x");
        let mut errors = vec![
            get(&store, &key).await.unwrap_err(),
            store.put(&key, body()).await.unwrap_err(),
            store.delete(&key).await.unwrap_err(),
        ];
        for condition in [Precondition::Absent, Precondition::Matches(digest_of("outside"))] {
            match store.put_if(&key, body(), condition).await {
                PutOutcome::Failed(error) => errors.push(error),
                other => panic!("{name}: {other:?}"),
            }
        }
        for error in errors {
            assert_eq!(error.code(), Code::StoreDenied, "{name}: {error}");
            assert!(error.message().contains("symbolic link"), "{error}");
        }
    }
    // A listing neither shows what is outside nor silently leaves out what a link stands for.
    let listed = store.list(&Prefix::raw("a/"), None, 10).await.unwrap_err();
    assert_eq!(listed.code(), Code::StoreDenied, "{listed}");
    store.list_dirs(&Prefix::raw("a/")).await.unwrap_err();
    assert_eq!(store.list(&Prefix::raw("a/own"), None, 10).await.unwrap().objects.len(), 1);
    assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "outside");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    // The folder itself may be reached by a link: the operator has named it.
    let alias = outside.path().join("alias");
    symlink(root.path(), &alias).unwrap();
    assert!(matches!(get(&open(&alias).await, &Key::raw("a/own")).await, Ok(Fetched::Found(_))));
    // Nor do its own files go elsewhere.
    let other = tempfile::tempdir().unwrap();
    symlink(outside.path(), other.path().join(".brainy")).unwrap();
    let refused = LocalStore::open(other.path(), false).await.unwrap_err();
    assert_eq!(refused.code(), Code::StoreDenied);
}

fn digest_of(text: &str) -> Etag {
    crate::store::memory::digest(text.as_bytes())
}
