//! `brainy search`: the records closest to a vector, a record or a text.

use crate::args::{QueryArgs, SearchArgs};
use crate::failure::{Failure, Result};
use crate::output;
use crate::transport::{Access, Transport, collection_path};
use axum::http::Method;
use brainy::embed::{Embedder, HashingEmbedder};
use serde_json::{Value, json};

const TEXT_CHARACTERS_MAX: usize = 100;
const METADATA_CHARACTERS_MAX: usize = 80;
const VECTOR_CHARACTERS_MAX: usize = 40;

/// Runs `brainy search`.
pub async fn run(args: &SearchArgs, json: bool) -> Result<()> {
    let path = collection_path(&args.data.collection)?;
    let mut body = body(args)?;
    let transport = Transport::open(&args.data.target, Access::Read).await?;
    let answer = async {
        query(&transport, &path, &args.query, &mut body).await?;
        let path = format!("{path}/search");
        transport.json(Method::POST, &path, Some(&body)).await
    }
    .await;
    transport.close().await;
    let answer = answer?;
    if json {
        return output::json(&answer);
    }
    print(&answer)
}

fn body(args: &SearchArgs) -> Result<Value> {
    let mut body = json!({
        "k": args.k,
        "offset": args.offset,
        "includeVector": args.include_vector,
    });
    if let Some(filter) = &args.filter {
        body["filter"] = parsed("--filter", filter)?;
    }
    args.effort.put_into(&mut body);
    if args.strong {
        body["consistency"] = "strong".into();
    }
    if let Some(version) = args.min_version {
        body["minVersion"] = version.into();
    }
    Ok(body)
}

/// JSON from the command line.
pub fn parsed(flag: &str, text: &str) -> Result<Value> {
    serde_json::from_str(text)
        .map_err(|error| Failure::usage(format!("{flag} is not valid JSON: {error}")))
}

/// Puts what to search for into the body. A text needs to know the collection's dimensions.
async fn query(
    transport: &Transport,
    path: &str,
    query: &QueryArgs,
    body: &mut Value,
) -> Result<()> {
    if let Some(vector) = &query.vector {
        let array = vector.trim_start().starts_with('[');
        body["vector"] = match array {
            true => parsed("--vector", vector)?,
            false => vector.as_str().into(),
        };
    } else if let Some(id) = &query.id {
        body["id"] = id.as_str().into();
    } else if let Some(text) = &query.text {
        let collection = transport.json(Method::GET, path, None).await?;
        let dimensions = collection["dimensions"].as_u64().unwrap_or_default();
        let embedder = HashingEmbedder::new(usize::try_from(dimensions).unwrap_or_default());
        output::note(&format!(
            "--text is embedded by the built-in {}, which is lexical: it finds shared words, not \
             shared meaning, and only in collections that it filled",
            embedder.name()
        ));
        body["vector"] = json!(embedder.embed(text));
    }
    Ok(())
}

/// Prints the results as a person wants to read them.
pub fn print(answer: &Value) -> Result<()> {
    let none = Vec::new();
    let results = answer["results"].as_array().unwrap_or(&none);
    if results.is_empty() {
        output::line("no results")?;
    } else {
        output::print(&table(results))?;
    }
    let took_ms = answer["stats"]["tookMs"].as_f64().unwrap_or_default();
    output::line(&format!(
        "\n{} results at version {} in {took_ms:.1} ms",
        results.len(),
        output::cell(&answer["version"]),
    ))
}

fn table(results: &[Value]) -> comfy_table::Table {
    let any = |field: &str| results.iter().any(|result| !result[field].is_null());
    let columns: Vec<&str> =
        ["text", "metadata", "vector"].into_iter().filter(|column| any(column)).collect();
    let mut table = output::table(&[&["rank", "id", "distance"], columns.as_slice()].concat());
    for (index, result) in results.iter().enumerate() {
        let distance = result["distance"].as_f64().unwrap_or(f64::NAN);
        let mut row =
            vec![(index + 1).to_string(), output::cell(&result["id"]), format!("{distance:.4}")];
        for column in &columns {
            let value = &result[*column];
            let max = match *column {
                "text" => TEXT_CHARACTERS_MAX,
                "metadata" => METADATA_CHARACTERS_MAX,
                _ => VECTOR_CHARACTERS_MAX,
            };
            let text = match value {
                Value::Object(fields) => fields_text(fields),
                other => output::cell(other),
            };
            row.push(output::excerpt(&text, max));
        }
        table.add_row(row);
    }
    table
}

fn fields_text(fields: &serde_json::Map<String, Value>) -> String {
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={}", output::cell(value))).collect();
    pairs.join(" ")
}
