//! What is this instance called?
//!
//! As `instance_id` says; otherwise the name is made up, and kept in the file `instance-id` of `data_dir`
//! where there is one, so that it is the same after a restart. Never in the store: others share it.

use crate::base::settings::{Role, Settings, check_instance_id};
use crate::base::tasks::Tasks;
use crate::base::{Code, Env, Error, Result};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// The file in `data_dir`.
const FILE: &str = "instance-id";

/// This instance's name.
pub async fn instance_id(settings: &Settings, role: Role, env: &Env) -> Result<String> {
    if let Some(id) = &settings.instance_id {
        return Ok(id.clone());
    }
    let unique = env.ulid().to_string().to_lowercase();
    let Some(folder) = settings.data_dir.clone() else {
        return Ok(format!("{}-{unique}", role.name()));
    };
    // Not after its role, which may be another one tomorrow.
    let id = format!("node-{unique}");
    Tasks::blocking(move || kept(Path::new(&folder), &id)).await
}

/// The name that `folder` keeps; `id` from now on where it keeps none.
fn kept(folder: &Path, id: &str) -> Result<String> {
    let path = folder.join(FILE);
    let fault = |error: &dyn std::fmt::Display| {
        Error::new(
            Code::InvalidSettings,
            format!(
                "the instance's name could not be kept in {}: {error}; see to it that data_dir is a \
                 folder that this process may write to, or set instance_id",
                path.display()
            ),
        )
        .with("key", "data_dir")
    };
    fs::create_dir_all(folder).map_err(|error| fault(&error))?;
    match create(folder, &path, id) {
        Ok(()) => return Ok(id.to_owned()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(fault(&error)),
    }
    let found = fs::read_to_string(&path).map_err(|error| fault(&error))?;
    let found = found.trim();
    check_instance_id(found).map_err(|error| fault(&error))?;
    Ok(found.to_owned())
}

/// Creates the file with all of its content, or finds that there is one already.
fn create(folder: &Path, path: &Path, id: &str) -> io::Result<()> {
    let temporary = folder.join(format!("{FILE}.{id}"));
    let mut file = File::create(&temporary)?;
    file.write_all(format!("{id}\n").as_bytes())?;
    file.sync_all()?;
    // Unlike a rename, a link never replaces what another process has put there meanwhile.
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    linked?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    async fn id(settings: &Settings) -> Result<String> {
        instance_id(settings, Role::Writer, &Env::system(1).unwrap()).await
    }

    fn settings(folder: &Path) -> Settings {
        Settings { data_dir: Some(folder.display().to_string()), ..Settings::default() }
    }

    #[tokio::test]
    async fn a_name_that_was_made_up_is_kept_in_the_data_folder_only() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir.path().join("a/b"));
        let first = id(&settings).await.unwrap();
        assert!(first.starts_with("node-"), "{first}");
        assert_eq!(id(&settings).await.unwrap(), first);
        let files: Vec<_> = fs::read_dir(dir.path().join("a/b")).unwrap().collect();
        assert_eq!(files.len(), 1, "nothing is left behind: {files:?}");

        let explicit = Settings { instance_id: Some("w1".to_owned()), ..settings.clone() };
        assert_eq!(id(&explicit).await.unwrap(), "w1");
        assert_eq!(id(&settings).await.unwrap(), first);
        let nowhere = Settings::default();
        assert_ne!(id(&nowhere).await.unwrap(), id(&nowhere).await.unwrap());
    }

    #[tokio::test]
    async fn processes_that_start_at_once_agree_on_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let ids = futures::future::join_all((0..16).map(|_| id(&settings))).await;
        let ids: BTreeSet<String> = ids.into_iter().map(Result::unwrap).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
    }

    #[tokio::test]
    async fn a_file_that_is_not_a_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "two words\n").unwrap();
        let error = id(&settings(dir.path())).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidSettings);
        assert!(error.message().contains("instance-id"), "{error}");
        let error = id(&settings(&dir.path().join(FILE))).await.unwrap_err();
        assert!(error.message().contains("data_dir is a folder"), "{error}");
    }
}
