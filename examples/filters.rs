//! Metadata of one's own type, filters, pages of results. `cargo run --example filters`
use brainy::{Brainy, ErrorKind, Metric, NewRecord};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Serialize, Deserialize)]
struct Product {
    name: String,
    price: f64,
    tags: Vec<String>,
}

#[tokio::main]
async fn main() -> brainy::Result<()> {
    let db = Brainy::open("memory:").await?;
    let products = db.collection("products");
    products.create(2).metric(Metric::Euclidean).description("what we sell").await?;
    let mut records = Vec::new();
    for number in 0..100 {
        let tag = if number % 2 == 0 { "new" } else { "used" };
        let product = Product {
            name: format!("product {number}"),
            price: f64::from(number) * 1.5,
            tags: vec![tag.to_owned()],
        };
        let vector = vec![number as f32, 1.0];
        records.push(NewRecord::new(format!("p{number}"), vector).metadata_from(&product)?);
    }
    products.upsert(records).await?;

    // The second page of ten of what is new and costs less than 100, closest to product 40.
    let filter = json!({"tags": "new", "price": {"$lt": 100}});
    let page = products.search_like("p40").filter(filter).offset(10).limit(10).await?;
    for hit in &page.hits {
        let product: Product = hit.metadata_as()?;
        println!("{:<12} {:>6.2} {:?}", product.name, product.price, product.tags);
    }

    let fault = products.search([0.0, 0.0]).filter(r#"{"price": {"$cheaper": 3}}"#).await;
    let fault = fault.expect_err("there is no such operator");
    assert_eq!(fault.kind(), ErrorKind::Input);
    println!("{fault}");
    products.delete_where(json!({"price": {"$gte": 100}})).await?;
    println!("{} are left", products.info().await?.vector_count.unwrap_or_default());
    Ok(())
}
