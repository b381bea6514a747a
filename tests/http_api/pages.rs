//! The description and the page to try it.

use crate::support::Api;
use axum::http::header;

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
