//! A router on a store in memory, and a client for it.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, header};
use brainy::base::Env;
use brainy::base::settings::{Role, Settings};
use brainy::engine::Brainy;
use brainy::store::DynStore;
use brainy::store::memory::MemoryStore;
use serde_json::{Value, json};
use std::sync::Arc;
use tower::ServiceExt;

pub struct Api {
    pub router: Router,
    pub brainy: Brainy,
}

pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| {
            panic!("{error}: {}", String::from_utf8_lossy(&self.bytes));
        })
    }

    /// The body of a success.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.bytes));
        self.json()
    }

    /// The details of a failure with this status and code.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> Value {
        let error = self.json()["error"].clone();
        assert_eq!((self.status, error["code"].as_str()), (status, Some(code)), "{error}");
        assert!(!error["message"].as_str().unwrap().is_empty());
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/json");
        assert!(self.headers.contains_key("x-request-id"));
        assert!(error["details"].is_object(), "{error}");
        error["details"].clone()
    }
}

pub fn memory() -> DynStore {
    Arc::new(MemoryStore::default())
}

impl Api {
    /// A hybrid with default settings on a store of its own.
    pub async fn open() -> Api {
        Api::with(memory(), Role::Hybrid, |_| {}).await
    }

    pub async fn with(store: DynStore, role: Role, change: impl FnOnce(&mut Settings)) -> Api {
        let mut settings =
            Settings { poll_interval_ms: 10, shutdown_delay_ms: 0, ..Settings::default() };
        change(&mut settings);
        let env = Env::system(1).unwrap();
        let brainy = Brainy::start(settings, role, store, env).await.unwrap();
        Api { router: brainy::api::router(brainy.clone()), brainy }
    }

    /// With the collection `things`: cosine, 2 dimensions, records a, b and c.
    pub async fn things() -> Api {
        let api = Api::open().await;
        let body = json!({"vectors": [
            {"id": "a", "vector": [1, 0], "metadata": {"n": 1, "lang": "en"}, "text": "first"},
            {"id": "b", "vector": [0, 1], "metadata": {"n": 2}},
            {"id": "c", "vector": [0.7, 0.7], "metadata": {"n": 3}}]});
        api.post("/v1/collections/things/vectors", body).await.ok();
        api
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            bytes: to_bytes(body, usize::MAX).await.unwrap().to_vec(),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Request::delete(path).body(Body::empty()).unwrap()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.post_text(path, body.to_string()).await
    }

    /// Posts a body that need not be JSON.
    pub async fn post_text(&self, path: &str, body: impl Into<Body>) -> Answer {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(body.into()).unwrap()).await
    }
}
