//! Every store that needs no server passes the one suite, with all layers around it.

use brainy::base::Env;
use brainy::base::settings::Settings;
use brainy::store::conformance::{Effort, run};
use brainy::store::open::open;

async fn conforms(url: String) {
    let env = Env::system(1).unwrap();
    let settings = Settings { store: url, ..Settings::default() };
    let store = open(&settings, &env).await.unwrap();
    match run(&store, &env, Effort::QUICK).await {
        Ok(passed) => assert_eq!(passed.len(), 17),
        Err(failure) => panic!("{}: {failure}", settings.store),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_conforms() {
    conforms("memory:".to_owned()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conforms(format!("file://{}", folder.path().display())).await;
}
