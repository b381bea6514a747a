//! A segment of which any bytes are changed is refused, or can be read without a panic.

#![no_main]

use brainy::base::ids::Seq;
use brainy::index::{IndexParams, Metric, Scratch, Search, Threads};
use brainy::segment::layout::TRAILER_BYTES;
use brainy::segment::{Footer, Segment, SegmentBuilder};
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

fn file() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| {
        let mut builder = SegmentBuilder::new(2, Metric::Cosine);
        for row in 0..90u32 {
            let text = (row % 2 == 0).then_some("text");
            let vector = [row as f32 + 1.0, (row * 37 % 11) as f32];
            let id = format!("id-{row}");
            builder.push(&id, Seq(row.into()), &vector, "{\"a\":1}", text).expect("memory");
        }
        let params = IndexParams { m: 4, ef_construction: 16, ..IndexParams::default() };
        builder.finish(params, Threads::One).expect("rows can be built").into()
    })
}

/// Writes the checksum of the footer anew, which hardly any change would pass otherwise.
fn mend(bytes: &mut [u8]) {
    let Ok(length) = Footer::length(bytes) else { return };
    let trailer = bytes.len() - TRAILER_BYTES;
    let Some(start) = bytes.len().checked_sub(length) else { return };
    let crc = crc32c::crc32c(&bytes[start..trailer]);
    bytes[trailer + 4..trailer + 8].copy_from_slice(&crc.to_le_bytes());
}

fuzz_target!(|patches: Vec<(u16, u8)>| {
    let mut bytes = file().to_vec();
    let count = bytes.len();
    for (number, (at, byte)) in patches.into_iter().enumerate() {
        // Half of the patches hit the end: the footer, and the small sections before it.
        let at = usize::from(at) % count;
        let at = if number % 2 == 0 { at } else { count - 1 - at % 4_096.min(count) };
        bytes[at] = byte;
    }
    mend(&mut bytes);
    let Ok(segment) = Segment::from_bytes(bytes.into()) else { return };
    let _ = segment.verify();
    for row in 0..segment.contents().rows {
        let _ = (segment.id(row), segment.vector(row), segment.written(row));
        let _ = segment.records(row).map(|block| block.get(row).is_some());
        let _ = segment.find(&format!("id-{row}"));
    }
    let vectors = &segment.vectors();
    let search = Search { k: 3, effort: Default::default(), allowed: None, vectors: Some(vectors) };
    let query = vec![0.5; segment.index().dimensions()];
    let _ = segment.index().search(&query, &search, &mut Scratch::default());
});
