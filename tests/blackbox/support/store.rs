//! A store of one test's own.

use futures::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::TempDir;

/// An empty store; a folder disappears with it.
pub struct TestStore {
    /// What `--store` takes.
    pub url: String,
    folder: TempDir,
}

impl TestStore {
    /// A fresh folder, or a fresh prefix of `BRAINY_TEST_S3_URL`.
    pub fn new() -> Self {
        let folder = TempDir::with_prefix("brainy-").expect("a temporary folder can be made");
        let url = match std::env::var("BRAINY_TEST_S3_URL") {
            Ok(bucket) => {
                // The folder's random name is as good for a prefix.
                let name = folder.path().file_name().expect("it has a name");
                format!("{}/{}", bucket.trim_end_matches('/'), name.display())
            }
            Err(_) => format!("file://{}", folder.path().join("store").display()),
        };
        TestStore { url, folder }
    }

    /// Where processes leave their output.
    pub fn logs(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The sequence numbers of a collection's log entries, ascending, read past Brainy: what the
    /// documented layout promises is what has to be in the store.
    pub async fn log_sequence(&self, collection: &str) -> Vec<u64> {
        let folder = format!("collections/{collection}/wal");
        let names = match self.url.strip_prefix("file://") {
            Some(root) => local_names(&format!("{root}/{folder}")),
            None => s3_names(&self.url, &folder).await,
        };
        let mut sequence: Vec<u64> = names
            .iter()
            .filter_map(|name| name.strip_suffix(".wal"))
            .map(|digits| digits.parse().expect("a log entry is named by its number"))
            .collect();
        sequence.sort_unstable();
        sequence
    }

    /// The folder of a store that is one.
    pub fn root_folder(&self) -> Option<&std::path::Path> {
        self.url.strip_prefix("file://").map(std::path::Path::new)
    }

    /// What stands at `key`, as a person would download it.
    pub async fn download(&self, key: &str) -> Option<Vec<u8>> {
        if let Some(folder) = self.root_folder() {
            return std::fs::read(folder.join(key)).ok();
        }
        let (s3, root) = s3(&self.url);
        match s3.get(&Path::from(format!("{root}/{key}"))).await {
            Ok(found) => Some(found.bytes().await.expect("the object can be read").to_vec()),
            Err(object_store::Error::NotFound { .. }) => None,
            Err(fault) => panic!("{key}: {fault}"),
        }
    }

    /// Puts `body` at `key`, as a person would upload it.
    pub async fn upload(&self, key: &str, body: Vec<u8>) {
        if let Some(folder) = self.root_folder() {
            let beside = self.folder.path().join("upload");
            std::fs::write(&beside, body).expect("a file can be written");
            std::fs::rename(&beside, folder.join(key)).expect("the store's folder is there");
            return;
        }
        let (s3, root) = s3(&self.url);
        let path = Path::from(format!("{root}/{key}"));
        s3.put(&path, body.into()).await.expect("the object can be put");
    }

    /// Deletes what stands at `key`.
    pub async fn remove(&self, key: &str) {
        if let Some(folder) = self.root_folder() {
            std::fs::remove_file(folder.join(key)).expect("the file is there");
            return;
        }
        let (s3, root) = s3(&self.url);
        s3.delete(&Path::from(format!("{root}/{key}"))).await.expect("the object can be deleted");
    }
}

fn local_names(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the collection has a log");
    entries
        .map(|entry| entry.expect("the folder can be read").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// A client of the bucket of `url`, and the prefix that the URL names.
fn s3(url: &str) -> (AmazonS3, &str) {
    let rest = url.strip_prefix("s3://").expect("an S3 URL");
    let (bucket, root) = rest.split_once('/').expect("a prefix was added");
    let s3 = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_allow_http(true)
        .build()
        .expect("the AWS_* variables describe the server");
    (s3, root)
}

async fn s3_names(url: &str, folder: &str) -> Vec<String> {
    let (s3, root) = s3(url);
    let prefix = Path::from(format!("{root}/{folder}"));
    let found: Vec<_> =
        s3.list(Some(&prefix)).try_collect().await.expect("the store can be listed");
    found.iter().filter_map(|object| object.location.filename().map(str::to_owned)).collect()
}
