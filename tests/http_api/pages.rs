//! The description and the page to try it.

use crate::support::{Api, memory};
use axum::body::Body;
use axum::http::{Method, Request, header};
use brainy::base::settings::Role;

#[tokio::test]
async fn the_description_and_the_page_are_served() {
    let api = Api::open().await;
    let answer = api.get("/openapi.json").await;
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/json");
    let description = answer.ok();
    assert!(description["openapi"].as_str().unwrap().starts_with("3."));
    assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(description["paths"]["/v1/collections/{collection}/search"]["post"].is_object());

    let redirect = api.get("/docs").await;
    assert_eq!(
        (redirect.status, &redirect.headers[header::LOCATION]),
        (303, &"/docs/".parse().unwrap())
    );
    let page = api.get("/docs/").await;
    assert_eq!(page.status, 200);
    assert!(String::from_utf8_lossy(&page.bytes).contains("swagger-ui"));
    let set_up = api.get("/docs/swagger-initializer.js").await;
    assert!(String::from_utf8_lossy(&set_up.bytes).contains("/openapi.json"));
    api.get("/docs/nothing.js").await.refused(404, "route_not_found");
}

#[tokio::test]
async fn other_paths_and_methods_are_told_apart() {
    let api = Api::open().await;
    for path in
        ["/", "/v1", "/v1/collections/a/b/c", "/v2/collections", "/v1/collections/a/vectors/"]
    {
        api.get(path).await.refused(404, "route_not_found");
    }
    let answer = api.delete("/v1/collections").await;
    answer.refused(405, "method_not_allowed");
    let allow = answer.headers[header::ALLOW].to_str().unwrap();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
}

const PAGE: &str = "https://app.example";

fn from_a_page(method: Method, path: &str, origin: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header(header::ORIGIN, origin);
    let request = request.header(header::CONTENT_TYPE, "application/json");
    request.header(header::HOST, "db.example").body(Body::from(r#"{"partitionCount": 1}"#)).unwrap()
}

#[tokio::test]
async fn no_route_does_anything_for_a_page_from_elsewhere() {
    let api = Api::open().await;
    let description = api.get("/openapi.json").await.ok();
    let mut asked = 0;
    for (path, calls) in description["paths"].as_object().unwrap() {
        for method in calls.as_object().unwrap().keys().filter(|method| *method != "get") {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let path = path.replace("{collection}", "things").replace(['{', '}'], "");
            let answer = api.send(from_a_page(method, &path, PAGE)).await;
            answer.refused(403, "origin_not_allowed");
            asked += 1;
        }
    }
    assert!(asked >= 15, "{asked}");
    let own = from_a_page(Method::POST, "/v1/collections", "https://db.example");
    api.send(own).await.refused(400, "invalid_request");
}

#[tokio::test]
async fn a_page_that_is_allowed_may_ask_and_read() {
    let open = |settings: &mut brainy::base::settings::Settings| {
        settings.cors_allowed_origins = Some(format!("https://other.example, {PAGE}"));
    };
    let api = Api::with(memory(), Role::Hybrid, open).await;
    let answer = api.send(from_a_page(Method::POST, "/v1/collections", PAGE)).await;
    answer.refused(400, "invalid_request");
    assert_eq!(answer.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], PAGE);
    let mut preflight = from_a_page(Method::OPTIONS, "/v1/collections", PAGE);
    let wanted = "DELETE".parse().unwrap();
    preflight.headers_mut().insert(header::ACCESS_CONTROL_REQUEST_METHOD, wanted);
    let answer = api.send(preflight).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], PAGE);
    let elsewhere = from_a_page(Method::GET, "/v1/collections", "https://evil.example");
    let answer = api.send(elsewhere).await;
    assert!(!answer.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
}

#[tokio::test]
async fn a_request_s_own_id_is_short_and_plain_or_is_not_taken() {
    let api = Api::open().await;
    for (id, taken) in [
        ("req-1:a/b+c=d@e_f.g".to_owned(), true),
        ("x".repeat(128), true),
        ("x".repeat(129), false),
        ("x".repeat(5_000), false),
        ("two words".to_owned(), false),
        ("a\ttab".to_owned(), false),
        ("\u{e9}".to_owned(), false),
    ] {
        let request = Request::get("/health/live").header("x-request-id", id.as_bytes());
        let answer = api.send(request.body(Body::empty()).unwrap()).await;
        let returned = answer.headers["x-request-id"].to_str().unwrap();
        assert_eq!(returned == id, taken, "{id:?} became {returned:?}");
        assert!((1..=128).contains(&returned.len()));
    }
}
