//! What a file is by its first bytes. People give their files the names that they like.

/// Bytes by which every kind is known.
pub const SAMPLE_BYTES: usize = 16;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Lines, as far as one can see.
    Lines,
    /// Compressed by gzip.
    Gzip,
    /// Compressed by zstd.
    Zstd,
    /// An array of NumPy.
    Npy,
    /// Something else, which is not read.
    Foreign(Foreign),
}

/// What is known and not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign {
    /// What it is.
    pub what: &'static str,
    /// How to make something of it that is read.
    pub hint: &'static str,
}

const ZIP: Foreign = Foreign {
    what: "a zip archive (.npz is one)",
    hint: "import what is in it: of an .npz, each array saved with numpy.save",
};
const PARQUET: Foreign = Foreign {
    what: "a Parquet file",
    hint: "write it as NDJSON, for example with pandas: to_json(path, orient='records', lines=True)",
};
const ARROW: Foreign = Foreign {
    what: "an Arrow file",
    hint: "write it as NDJSON, for example with pandas: to_json(path, orient='records', lines=True)",
};
const HDF5: Foreign =
    Foreign { what: "an HDF5 file", hint: "save its array with numpy.save, and import that" };
const UTF16: Foreign = Foreign {
    what: "text in UTF-16",
    hint: "save it as UTF-8, for example with: iconv -f UTF-16 -t UTF-8",
};
const JSON_ARRAY: Foreign = Foreign {
    what: "one JSON array",
    hint: "write one record a line, for example with: jq -c '.[]'",
};

impl FileKind {
    /// The kind of what begins with these bytes: [`SAMPLE_BYTES`] of them, or all that there are.
    pub fn of(start: &[u8]) -> FileKind {
        let known: [(&[u8], FileKind); 10] = [
            (b"\x1f\x8b", FileKind::Gzip),
            (b"\x28\xb5\x2f\xfd", FileKind::Zstd),
            (b"\x93NUMPY", FileKind::Npy),
            (b"PK\x03\x04", FileKind::Foreign(ZIP)),
            (b"PK\x05\x06", FileKind::Foreign(ZIP)),
            (b"PAR1", FileKind::Foreign(PARQUET)),
            (b"ARROW1", FileKind::Foreign(ARROW)),
            (b"\x89HDF", FileKind::Foreign(HDF5)),
            (b"\xff\xfe", FileKind::Foreign(UTF16)),
            (b"\xfe\xff", FileKind::Foreign(UTF16)),
        ];
        if let Some((_, kind)) = known.iter().find(|(magic, _)| start.starts_with(magic)) {
            return *kind;
        }
        // Without a mark, as some programs write it.
        if matches!(start, [b'{', 0, ..] | [0, b'{', ..]) {
            return FileKind::Foreign(UTF16);
        }
        let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
        match text.strip_prefix(b"[") {
            // An array of numbers is one wrong line; an array that opens the file holds all of it.
            Some(inner) if inner.trim_ascii_start().first().is_none_or(|byte| *byte == b'{') => {
                FileKind::Foreign(JSON_ARRAY)
            }
            _ => FileKind::Lines,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_content() {
        for (start, kind) in [
            (&b""[..], FileKind::Lines),
            (b"{\"id\": \"a\"}", FileKind::Lines),
            (b"\xef\xbb\xbf{\"id\": \"a\"}", FileKind::Lines),
            (b"\n\n{}", FileKind::Lines),
            (b"[1, 2]\n{}", FileKind::Lines),
            (b"caf\xe9", FileKind::Lines),
            (b"\x1f\x8b\x08", FileKind::Gzip),
            (b"\x28\xb5\x2f\xfd\x00", FileKind::Zstd),
            (b"\x93NUMPY\x01\x00", FileKind::Npy),
            (b"PK\x03\x04", FileKind::Foreign(ZIP)),
            (b"\xff\xfe{\x00", FileKind::Foreign(UTF16)),
            (b"{\x00\"\x00", FileKind::Foreign(UTF16)),
            (b"[{\"id\"", FileKind::Foreign(JSON_ARRAY)),
            (b"\xef\xbb\xbf [\r\n  {", FileKind::Foreign(JSON_ARRAY)),
            (b"[\n", FileKind::Foreign(JSON_ARRAY)),
        ] {
            assert_eq!(FileKind::of(start), kind, "{}", start.escape_ascii());
        }
    }
}
