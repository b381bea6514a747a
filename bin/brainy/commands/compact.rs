//! `brainy compact`: index what is in the log and make one segment of each partition.

use crate::args::{CompactArgs, DataArgs};
use crate::failure::Result;
use crate::output;
use crate::transport::{Access, Transport, collection_path};
use axum::http::Method;
use serde_json::Value;

/// Runs `brainy compact`.
pub async fn run(args: &CompactArgs, json: bool) -> Result<()> {
    let changed = change(&args.data, "compact", None).await?;
    if json {
        return output::json(&changed.answer);
    }
    let rewritten = changed.answer["rewritten"].as_u64().unwrap_or_default();
    changed.print(&format!("{} written anew", output::counted(rewritten, "partition")))
}

/// What a call about a whole collection has changed.
pub struct Changed {
    /// What it answers.
    pub answer: Value,
    before: Value,
    after: Value,
}

/// Makes a call about a collection that may take long, with a look before and after.
pub async fn change(data: &DataArgs, call: &str, body: Option<Value>) -> Result<Changed> {
    let path = collection_path(&data.collection)?;
    let transport = Transport::open(&data.target, Access::Rework).await?;
    let changed = async {
        let stats = format!("{path}/stats");
        let before = transport.json(Method::GET, &stats, None).await?;
        let answer = transport.json(Method::POST, &format!("{path}/{call}"), body.as_ref()).await?;
        let after = transport.json(Method::GET, &stats, None).await?;
        Ok(Changed { answer, before, after })
    };
    let changed = changed.await;
    transport.close().await;
    changed
}

impl Changed {
    /// Prints what was done, and the figures before and after.
    pub fn print(&self, done: &str) -> Result<()> {
        output::line(&format!("{}: {done}", output::cell(&self.after["name"])))?;
        let mut table = output::table(&["", "before", "after"]);
        for (name, field) in [
            ("partitions", "partitionCount"),
            ("segments", "segments"),
            ("dead rows in them", "deadRows"),
            ("bytes of segments", "segmentBytes"),
            ("indexed up to version", "indexedVersion"),
        ] {
            let [before, after] = [&self.before, &self.after].map(|stats| {
                let value = stats[field].as_u64().unwrap_or_default();
                if field == "segmentBytes" { output::size(value) } else { output::count(value) }
            });
            table.add_row([name.to_owned(), before, after]);
        }
        output::print(&table)
    }
}
