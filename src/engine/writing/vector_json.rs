//! A vector in JSON: an array of numbers, or base64 of little-endian `f32`.

use base64::prelude::BASE64_STANDARD;
use base64::{DecodeSliceError, Engine};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;

/// Room that is made for a vector before its length is known.
const LENGTH_GUESS: usize = 1_024;

/// A vector from a client, or what is wrong with its base64 form. The fault is kept instead of
/// raised, because only who holds the whole record can say which one it is.
#[derive(Debug, PartialEq)]
pub struct VectorInput(pub Result<Vec<f32>, String>);

impl<'de> Deserialize<'de> for VectorInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(VectorVisitor)
    }
}

struct VectorVisitor;

impl<'de> Visitor<'de> for VectorVisitor {
    type Value = VectorInput;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of numbers, or base64 of little-endian 32-bit floats")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::with_capacity(items.size_hint().unwrap_or(LENGTH_GUESS));
        while let Some(value) = items.next_element::<f32>()? {
            values.push(value);
        }
        values.shrink_to_fit();
        Ok(VectorInput(Ok(values)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(VectorInput(decode(text)))
    }
}

fn decode(text: &str) -> Result<Vec<f32>, String> {
    // Decoded where it stays: the vectors of a large write are megabytes.
    let mut values = vec![0.0_f32; base64::decoded_len_estimate(text.len()).div_ceil(4)];
    let decoded = BASE64_STANDARD.decode_slice(text, bytemuck::cast_slice_mut(&mut values));
    let bytes = decoded.map_err(|error| {
        let reason = match error {
            DecodeSliceError::DecodeError(reason) => reason.to_string(),
            too_small @ DecodeSliceError::OutputSliceTooSmall => too_small.to_string(),
        };
        format!("the vector is not valid base64 (standard alphabet, padded): {reason}")
    })?;
    if !bytes.is_multiple_of(4) {
        return Err(format!(
            "the vector's base64 holds {bytes} bytes, which is not a multiple of 4: send \
             little-endian 32-bit floats"
        ));
    }
    values.truncate(bytes / 4);
    values.iter_mut().for_each(|value| *value = f32::from_bits(u32::from_le(value.to_bits())));
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<VectorInput, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn numbers_and_base64_give_the_same_vector() {
        let numbers = parse("[0.12, -0.5, 0.33]").unwrap();
        assert_eq!(numbers.0.as_ref().unwrap(), &[0.12, -0.5, 0.33]);
        assert_eq!(parse(r#""j8L1PQAAAL/D9ag+""#).unwrap(), numbers);
        assert_eq!(parse("[]").unwrap(), VectorInput(Ok(Vec::new())));
        assert_eq!(parse(r#""""#).unwrap(), VectorInput(Ok(Vec::new())));
        for length in [1, 2, 4, 383, 384, 385] {
            let vector: Vec<f32> = (0..length).map(|at| at as f32 - 7.5).collect();
            let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            let text = format!("{:?}", BASE64_STANDARD.encode(bytes));
            assert_eq!(parse(&text).unwrap(), VectorInput(Ok(vector)));
        }
    }

    #[test]
    fn numbers_are_rounded_once_to_32_bits() {
        // Half way between two f32, but a little above: by way of f64 it would round down.
        let above = "[1.00000005960464478]";
        let expected: f32 = "1.00000005960464478".parse().unwrap();
        assert_eq!(parse(above).unwrap().0.unwrap(), [expected]);
        assert_ne!(expected, "1.00000005960464478".parse::<f64>().unwrap() as f32);
    }

    #[test]
    fn faults_of_base64_are_kept_and_other_types_refused() {
        for bad in [r#""!!""#, r#""AAAA""#, r#""AAAAAA""#, r#""j8L1PQ""#] {
            assert!(parse(bad).unwrap().0.is_err(), "{bad}");
        }
        for bad in ["null", "3", "{}", "[null]", r#"["1"]"#, "[[1]]", "[true]"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
