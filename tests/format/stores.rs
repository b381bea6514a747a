//! Whole stores that released binaries have written (`scripts/golden-store`): each is read, and goes on.

use crate::engine::World;
use brainy::NewRecord;
use futures::TryStreamExt;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The folders of all.
fn stores() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/stores");
    let mut stores: Vec<PathBuf> =
        std::fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path()).collect();
    stores.sort();
    assert!(stores.len() >= 2, "{stores:?}");
    stores
}

/// A store to write to.
fn copy(from: &Path) -> TempDir {
    fn copy_into(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
            if from.is_dir() {
                copy_into(&from, &to);
            } else {
                std::fs::copy(from, to).unwrap();
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    copy_into(&from.join("store"), folder.path());
    folder
}

async fn exported(world: &World, name: &str) -> Vec<Value> {
    let name = brainy::CollectionName::new(name).unwrap();
    let export = world.db.export(&name, true).await.unwrap();
    let pieces: Vec<_> = export.lines.try_collect().await.unwrap();
    let text = String::from_utf8(pieces.concat()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_of_released_binaries_are_read_and_go_on() {
    for path in stores() {
        for name in ["things", "far", "again"] {
            let step = format!("{} {name}", path.display());
            let world = World::on(copy(&path), name).await;
            let expected = std::fs::read_to_string(path.join(format!("expected/{name}.ndjson")));
            let expected: Vec<Value> =
                expected.unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(exported(&world, name).await, expected, "{step}");
            world.check(&step).await;

            // Who held them was killed, and nobody is to wait here until they have run out.
            let _ = std::fs::remove_dir_all(world.folder.path().join("_brainy/leases"));
            // One that is there, and one that is new.
            let id = expected[0]["id"].as_str().unwrap();
            let vector = vec![4.0, 3.0, 2.0, 1.0];
            world
                .upsert(vec![NewRecord::new(id, vector.clone()), NewRecord::new("new", vector)])
                .await;
            world.check(&step).await;
            let of = brainy::CollectionName::new(name).unwrap();
            world.db.index(&of).await.unwrap();
            world.check(&step).await;
            world.db.compact(&of).await.unwrap();
            world.check(&step).await;
            assert_eq!(exported(&world, name).await.len(), expected.len() + 1, "{step}");
            assert!(world.db.shutdown().await);
        }
    }
}
