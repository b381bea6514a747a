//! The records that `brainy demo` loads: short texts of several domains, written for it.

use crate::base::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

const SAMPLE: &str = include_str!("../../config/demo/sample.jsonl");

/// One record of the sample.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleRecord {
    /// Its id, such as `med-001`.
    pub id: String,
    /// What it says, in English.
    pub text: String,
    /// Its fields: always `domain`, and a few typed ones that depend on it.
    pub metadata: Map<String, Value>,
}

/// The sample, some 300 records.
pub fn sample() -> Result<Vec<SampleRecord>> {
    SAMPLE
        .lines()
        .enumerate()
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| {
                Error::internal(format!("line {} of the built-in sample is broken", index + 1))
                    .caused_by(error)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::{Embedder, HashingEmbedder};
    use std::collections::{BTreeMap, HashSet};

    #[test]
    fn the_sample_is_what_the_demo_promises() {
        let records = sample().unwrap();
        let mut domains = BTreeMap::new();
        let (mut ids, mut texts) = (HashSet::new(), HashSet::new());
        for record in &records {
            let domain = record.metadata["domain"].as_str().unwrap();
            *domains.entry(domain).or_insert(0) += 1;
            assert!(ids.insert(&record.id), "{} is there twice", record.id);
            assert!(texts.insert(&record.text), "{} repeats a text", record.id);
            let words = record.text.split_whitespace().count();
            assert!((15..=45).contains(&words), "{}: {words} words", record.id);
            assert!(record.metadata.len() >= 3, "{} has few fields", record.id);
        }
        assert!(records.len() >= 300, "{domains:?}");
        for domain in ["medical", "legal", "product"] {
            assert!(domains[domain] >= 80, "{domains:?}");
        }
        let others: i32 = domains.values().sum::<i32>()
            - ["medical", "legal", "product"].map(|domain| domains[domain]).iter().sum::<i32>();
        assert!(others >= 60 && domains.len() >= 5, "{domains:?}");
    }

    #[test]
    fn each_field_has_one_type_throughout() {
        let mut kinds: BTreeMap<String, std::mem::Discriminant<Value>> = BTreeMap::new();
        for record in sample().unwrap() {
            for (field, value) in record.metadata {
                let kind = std::mem::discriminant(&value);
                let known = *kinds.entry(field.clone()).or_insert(kind);
                assert_eq!(known, kind, "{}: {field}", record.id);
            }
        }
    }

    #[test]
    fn sensible_queries_find_the_right_domain_first() {
        let embedder = HashingEmbedder::default();
        let records: Vec<_> = sample()
            .unwrap()
            .into_iter()
            .map(|record| (embedder.embed(&record.text), record))
            .collect();
        for (query, domain) in [
            ("chest pain when climbing stairs", "medical"),
            ("child with fever and a rash", "medical"),
            ("side effects of blood pressure medicine", "medical"),
            ("tenant deposit not returned", "legal"),
            ("can my employer change my contract", "legal"),
            ("copyright of a photograph", "legal"),
            ("quiet headphones for the office", "product"),
            ("waterproof jacket for hiking in the rain", "product"),
            ("night train through the mountains", "travel"),
            ("how to keep bread crust crisp", "cooking"),
        ] {
            let vector = embedder.embed(query);
            let similarity =
                |other: &[f32]| -> f32 { vector.iter().zip(other).map(|(a, b)| a * b).sum() };
            let (_, best) = records
                .iter()
                .max_by(|a, b| similarity(&a.0).total_cmp(&similarity(&b.0)))
                .unwrap();
            assert_eq!(best.metadata["domain"], domain, "{query}: {}", best.text);
        }
    }
}
