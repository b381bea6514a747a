//! What a file is by its first bytes. People give their files the names that they like.

/// Bytes by which every kind is known.
pub const SAMPLE_BYTES: usize = 16;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
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

impl Kind {
    /// The kind of what begins with these bytes: [`SAMPLE_BYTES`] of them, or all that there are.
    pub fn of(start: &[u8]) -> Kind {
        let known: [(&[u8], Kind); 10] = [
            (b"\x1f\x8b", Kind::Gzip),
            (b"\x28\xb5\x2f\xfd", Kind::Zstd),
            (b"\x93NUMPY", Kind::Npy),
            (b"PK\x03\x04", Kind::Foreign(ZIP)),
            (b"PK\x05\x06", Kind::Foreign(ZIP)),
            (b"PAR1", Kind::Foreign(PARQUET)),
            (b"ARROW1", Kind::Foreign(ARROW)),
            (b"\x89HDF", Kind::Foreign(HDF5)),
            (b"\xff\xfe", Kind::Foreign(UTF16)),
            (b"\xfe\xff", Kind::Foreign(UTF16)),
        ];
        if let Some((_, kind)) = known.iter().find(|(magic, _)| start.starts_with(magic)) {
            return *kind;
        }
        // Without a mark, as some programs write it.
        if matches!(start, [b'{', 0, ..] | [0, b'{', ..]) {
            return Kind::Foreign(UTF16);
        }
        let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
        match text.strip_prefix(b"[") {
            // An array of numbers is one wrong line; an array that opens the file holds all of it.
            Some(inner) if inner.trim_ascii_start().first().is_none_or(|byte| *byte == b'{') => {
                Kind::Foreign(JSON_ARRAY)
            }
            _ => Kind::Lines,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_content() {
        for (start, kind) in [
            (&b""[..], Kind::Lines),
            (b"{\"id\": \"a\"}", Kind::Lines),
            (b"\xef\xbb\xbf{\"id\": \"a\"}", Kind::Lines),
            (b"\n\n{}", Kind::Lines),
            (b"[1, 2]\n{}", Kind::Lines),
            (b"caf\xe9", Kind::Lines),
            (b"\x1f\x8b\x08", Kind::Gzip),
            (b"\x28\xb5\x2f\xfd\x00", Kind::Zstd),
            (b"\x93NUMPY\x01\x00", Kind::Npy),
            (b"PK\x03\x04", Kind::Foreign(ZIP)),
            (b"\xff\xfe{\x00", Kind::Foreign(UTF16)),
            (b"{\x00\"\x00", Kind::Foreign(UTF16)),
            (b"[{\"id\"", Kind::Foreign(JSON_ARRAY)),
            (b"\xef\xbb\xbf [\r\n  {", Kind::Foreign(JSON_ARRAY)),
            (b"[\n", Kind::Foreign(JSON_ARRAY)),
        ] {
            assert_eq!(Kind::of(start), kind, "{}", start.escape_ascii());
        }
    }
}
