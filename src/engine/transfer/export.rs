//! Export: all records of a snapshot as NDJSON, in constant memory.

use crate::base::defect::Defect;
use crate::base::request::RequestContext;
use crate::base::{Env, Result};
use crate::engine::model::Export;
use crate::engine::reading::records;
use crate::engine::reading::snapshot::{OpenSnapshot, Payloads};
use bytes::Bytes;
use futures::stream::{self, StreamExt};

/// Records of one piece of an export, at most.
const EXPORT_PAGE: usize = 256;
/// Bytes of which a piece of an export is full.
const EXPORT_BYTES: usize = 256 << 10;

/// All records of a snapshot, in pieces that are made when they are asked for. One piece at a time is held
/// for the request.
pub fn export(
    snapshot: OpenSnapshot,
    env: Env,
    context: RequestContext,
    include_vector: bool,
) -> Export {
    let (version, partial) = (snapshot.version(), snapshot.partial());
    // The state is the last id written, or None once everything is.
    let lines = stream::unfold(Some(None::<String>), move |state| {
        let (snapshot, env, context) = (snapshot.clone(), env.clone(), context.clone());
        async move {
            let after = state?;
            let page = env.compute.run(move || {
                let page = page(&snapshot, after.as_deref(), include_vector)?;
                context.next_piece(page.0.len())?;
                Ok(page)
            });
            match page.await.and_then(|page| page) {
                Ok((bytes, _)) if bytes.is_empty() => None,
                Ok((bytes, next)) if env.defects.has(Defect::ExportDropsLine) => {
                    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0);
                    Some((Ok(bytes.slice(end + 1..)), next.map(Some)))
                }
                Ok((bytes, next)) => Some((Ok(bytes), next.map(Some))),
                Err(error) => Some((Err(error), None)),
            }
        }
    });
    Export { version, partial, lines: lines.fuse().boxed() }
}

fn page(
    snapshot: &OpenSnapshot,
    after: Option<&str>,
    include_vector: bool,
) -> Result<(Bytes, Option<String>)> {
    let (mut out, mut last) = (Vec::new(), None);
    let mut payloads = Payloads::default();
    let more = records::visit(snapshot, after, EXPORT_PAGE, |place| {
        if out.len() >= EXPORT_BYTES {
            return Ok(false);
        }
        last = Some(place.id()?);
        records::write_line(&mut out, place, &mut payloads, include_vector)?;
        Ok(true)
    })?;
    Ok((out.into(), last.filter(|_| more).map(str::to_owned)))
}
