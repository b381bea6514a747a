//! What was cut off, or has one wrong byte, is an error or says the same as before.

use crate::decode::{Result, chunk, deletions, entry, filter_index, manifest, segment};
use crate::golden::golden;
use crate::make::{self, Part, operation};
use std::fmt::Debug;

fn is_never_something_else<T: PartialEq + Debug>(data: &[u8], decode: impl Fn(&[u8]) -> Result<T>) {
    let whole = decode(data).unwrap();
    for length in 0..data.len() {
        assert!(decode(&data[..length]).is_err(), "the first {length} bytes are read");
    }
    assert!(decode(&[data, &[0]].concat()).is_err(), "a byte too many is read");
    let mut damaged = data.to_vec();
    for at in 0..data.len() {
        for flip in [1, 0x80, 0xff] {
            damaged[at] = data[at] ^ flip;
            if let Ok(found) = decode(&damaged) {
                assert_eq!(found, whole, "byte {at} with {flip:x} flipped is read");
            }
        }
        damaged[at] = data[at];
    }
}

#[test]
fn of_chunks() {
    is_never_something_else(&golden("chunk-v1-f32.bin"), chunk::decode);
    is_never_something_else(&golden("chunk-v1-f16.bin"), chunk::decode);
    is_never_something_else(&golden("chunk-v2.bin"), chunk::decode);
}

#[test]
fn of_entries() {
    is_never_something_else(&golden("entry-v1.wal"), entry::decode);
    is_never_something_else(&golden("seal-v1.wal"), entry::decode);
    let chunk = make::chunk(1, &[operation(1, "a", 1.0)]);
    let parts = [Part::Inline(1, &chunk)];
    let waiting = make::entry((1, 7, 1), (0, 0), &parts);
    let writer = u64::from_le_bytes([9; 8]);
    is_never_something_else(&waiting, |data| entry::decode_waiting(data, writer));
    assert!(entry::decode_waiting(&waiting, writer + 1).is_err());
}

#[test]
fn of_segments() {
    is_never_something_else(&golden("segment-v1.seg"), segment::decode);
}

#[test]
fn of_dead_rows() {
    is_never_something_else(&golden("deletions-v1.del"), deletions::decode);
}

/// A filter index has no checksum of its own: it lies in a section, which has. So damage may be read, but never
/// breaks the reader.
#[test]
fn of_filter_indexes_and_manifests_never_breaks_the_reader() {
    let data = golden("filter-index-v1.bin");
    each_flip(&data, |damaged| drop(filter_index::decode(damaged)));
    for length in 0..data.len() {
        assert!(filter_index::decode(&data[..length]).is_err());
    }
    // A manifest is text for people to edit, and has none either. What is cut off is no JSON.
    for version in 1..=3 {
        let data = golden(&format!("manifest-v{version}.json"));
        for length in 0..data.len() {
            assert!(manifest::decode(&data[..length], "golden").is_err());
        }
        each_flip(&data, |damaged| {
            if let Ok(found) = manifest::decode(damaged, "golden") {
                assert_eq!(found.name, "golden");
            }
        });
    }
}

/// Damage that checksums do not show, because somebody made them anew, never breaks the reader either.
#[test]
fn behind_right_checksums_never_breaks_the_reader() {
    let (sections, footer) = make::footer(&golden("segment-v1.seg"));
    let number = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
    for (section, at) in (0..16).flat_map(|section| (0..400).map(move |at| (section, at * 11))) {
        let (mut sections, mut footer) = (sections.clone(), footer.clone());
        let listed = &mut footer["sections"][section];
        let (offset, length) = (number(&listed["offset"]), number(&listed["length"]));
        if at < length {
            sections[offset + at] ^= [1, 0x80, 0xff][at % 3];
            listed["crc32c"] = crc32c::crc32c(&sections[offset..offset + length]).into();
            drop(segment::decode(&make::segment(sections, &footer)));
        }
    }
    for name in ["chunk-v1-f16.bin", "chunk-v2.bin"] {
        each_flip(&golden(name), |damaged| {
            let mut damaged = damaged.to_vec();
            let crc = crc32c::crc32c(&damaged[48..]).to_le_bytes();
            damaged[36..40].copy_from_slice(&crc);
            let crc = crc32c::crc32c(&damaged[..40]).to_le_bytes();
            damaged[40..44].copy_from_slice(&crc);
            if let Ok(found) = chunk::decode(&damaged) {
                found.fits(2);
            }
        });
    }
    each_flip(&golden("entry-v1.wal"), |damaged| {
        let mut damaged = damaged.to_vec();
        let crc = crc32c::crc32c(&damaged[80..]).to_le_bytes();
        damaged[72..76].copy_from_slice(&crc);
        let crc = crc32c::crc32c(&damaged[..76]).to_le_bytes();
        damaged[76..80].copy_from_slice(&crc);
        drop(entry::decode(&damaged));
    });
    let kept = golden("deletions-v1.del");
    for at in (0..kept.len() - 4).step_by(5) {
        let mut damaged = kept[..kept.len() - 4].to_vec();
        damaged[at] ^= 0xff;
        damaged.extend(crc32c::crc32c(&damaged).to_le_bytes());
        drop(deletions::decode(&damaged));
    }
}

fn each_flip(data: &[u8], decode: impl Fn(&[u8])) {
    let mut damaged = data.to_vec();
    for at in 0..data.len() {
        for flip in [1, 0x80, 0xff] {
            damaged[at] = data[at] ^ flip;
            decode(&damaged);
        }
        damaged[at] = data[at];
    }
}
