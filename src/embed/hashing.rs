//! Embedding by feature hashing: words, pairs of words and parts of words, no model.
//!
//! After Weinberger et al., "Feature Hashing for Large Scale Multitask Learning" (ICML 2009): each
//! feature adds to one coordinate, with a sign, both taken from its hash, so that collisions cancel
//! out on average. The parts of words are character n-grams within marked word boundaries, as in
//! Bojanowski et al., "Enriching Word Vectors with Subword Information" (TACL 2017); they make
//! `stairs` and `stair`, or a word and its misspelling, similar.
//!
//! Nothing depends on the platform: only hashes of bytes and correctly rounded operations (add,
//! multiply, divide, square root) in a fixed order.

use super::Embedder;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The length of vectors unless told otherwise.
pub const DIMENSIONS_DEFAULT: usize = 384;

/// Lengths of the character n-grams, boundary marks included.
const GRAM_CHARS: std::ops::RangeInclusive<usize> = 3..=5;
/// What a word weighs in all, squared.
const WORD_MASS: f64 = 1.0;
/// What a pair of neighbours weighs, squared.
const PAIR_MASS: f64 = 0.35;
/// What all n-grams of one word weigh together, squared.
const GRAMS_MASS: f64 = 0.6;
/// By how much the masses of a function word are scaled: it says little of what a text is about.
const FUNCTION_WORD_SCALE: f64 = 0.02;

/// English function words, sorted.
const FUNCTION_WORDS: [&str; 96] = [
    "a", "about", "after", "all", "also", "an", "and", "any", "are", "as", "at", "be", "because",
    "been", "before", "between", "both", "but", "by", "can", "could", "did", "do", "does", "each",
    "every", "for", "from", "had", "has", "have", "he", "her", "his", "how", "i", "if", "in",
    "into", "is", "it", "its", "just", "like", "may", "me", "more", "most", "must", "my", "no",
    "not", "of", "on", "one", "only", "or", "other", "our", "out", "over", "she", "should", "so",
    "some", "such", "than", "that", "the", "their", "them", "then", "there", "these", "they",
    "this", "to", "too", "under", "until", "up", "us", "very", "was", "we", "were", "what", "when",
    "where", "which", "who", "will", "with", "would", "you", "your",
];

/// What kind a feature is of; the seed of its hash.
#[derive(Clone, Copy)]
enum Kind {
    Word = 1,
    Pair = 2,
    Gram = 3,
    /// The text as it is, where it has no words.
    Text = 4,
}

/// The built-in, lexical embedder; see the module.
#[derive(Debug, Clone)]
pub struct HashingEmbedder {
    dimensions: usize,
    name: String,
}

impl Default for HashingEmbedder {
    fn default() -> Self {
        Self::new(DIMENSIONS_DEFAULT)
    }
}

impl HashingEmbedder {
    /// An embedder into `dimensions` dimensions (0 is taken as 1). Fewer than about 128 make
    /// unrelated texts collide.
    pub fn new(dimensions: usize) -> Self {
        let dimensions = dimensions.max(1);
        HashingEmbedder { dimensions, name: format!("hashing-v1-{dimensions}") }
    }

    /// The coordinate of a feature, and its sign.
    fn place(&self, hash: u64) -> (usize, f64) {
        // The upper half of the product is uniform over 0..dimensions and uses the high bits; the
        // sign is the lowest bit.
        let index = (u128::from(hash) * self.dimensions as u128) >> 64;
        (index as usize, if hash & 1 == 0 { 1.0 } else { -1.0 })
    }
}

impl Embedder for HashingEmbedder {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Case is ignored. A text without letters and digits is hashed as a whole: it has a vector of
    /// length 1 too, close to nothing but itself.
    fn embed(&self, text: &str) -> Vec<f32> {
        let mut features = features(&text.to_lowercase());
        features.sort_unstable_by_key(|feature| feature.0);
        let mut sums = vec![0.0; self.dimensions];
        for same in features.chunk_by(|a, b| a.0 == b.0) {
            // The root of the mass is sublinear in how often a feature occurs: four times is twice
            // the weight of once.
            let mass: f64 = same.iter().map(|feature| feature.1).sum();
            let (index, sign) = self.place(same[0].0);
            sums[index] += sign * mass.sqrt();
        }
        let norm = sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
        if norm < 1e-6 {
            // No words, or all features cancelled each other out.
            let (index, sign) = self.place(hash(Kind::Text, text.as_bytes()));
            sums[index] = sign;
            return sums.iter().map(|&sum| sum as f32).collect();
        }
        sums.iter().map(|sum| (sum / norm) as f32).collect()
    }

    fn name(&self) -> &str {
        &self.name
    }
}

fn hash(kind: Kind, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, kind as u64)
}

/// Every feature of a lowercase text: its hash and its mass, in the order of the text.
fn features(text: &str) -> Vec<(u64, f64)> {
    let mut features = Vec::new();
    let mut previous: Option<(String, f64)> = None;
    let mut scratch = String::new();
    for word in words(text) {
        let scale = match FUNCTION_WORDS.binary_search(&word.as_str()) {
            Ok(_) => FUNCTION_WORD_SCALE,
            Err(_) => 1.0,
        };
        features.push((hash(Kind::Word, word.as_bytes()), WORD_MASS * scale));
        grams(&word, GRAMS_MASS * scale, &mut scratch, &mut features);
        if let Some((before, scale_before)) = &previous {
            scratch.clear();
            scratch.extend([before, " ", word.as_str()]);
            let mass = PAIR_MASS * scale.min(*scale_before);
            features.push((hash(Kind::Pair, scratch.as_bytes()), mass));
        }
        previous = Some((word, scale));
    }
    features
}

/// The words of a text: runs of letters and digits. An apostrophe within a word is left out, so
/// `don't` is `dont`.
fn words(text: &str) -> impl Iterator<Item = String> {
    let apostrophe = |c: char| matches!(c, '\'' | '\u{2019}');
    text.split(move |c: char| !c.is_alphanumeric() && !apostrophe(c))
        .map(move |word| word.chars().filter(|&c| !apostrophe(c)).collect::<String>())
        .filter(|word| !word.is_empty())
}

/// The character n-grams of `<word>`, which share `mass`.
fn grams(word: &str, mass: f64, marked: &mut String, features: &mut Vec<(u64, f64)>) {
    marked.clear();
    marked.extend(["<", word, ">"]);
    // Where each character starts, and where the last one ends.
    let ends: Vec<usize> =
        marked.char_indices().map(|(start, _)| start).chain([marked.len()]).collect();
    let first = features.len();
    for chars in GRAM_CHARS {
        for window in ends.windows(chars + 1) {
            let gram = &marked.as_bytes()[window[0]..window[chars]];
            features.push((hash(Kind::Gram, gram), 0.0));
        }
    }
    let share = mass / (features.len() - first).max(1) as f64;
    for feature in &mut features[first..] {
        feature.1 = share;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn similarity(a: &str, b: &str) -> f32 {
        let embedder = HashingEmbedder::default();
        let (a, b) = (embedder.embed(a), embedder.embed(b));
        a.iter().zip(&b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn function_words_are_sorted_for_the_binary_search() {
        assert!(FUNCTION_WORDS.is_sorted());
    }

    #[test]
    fn shared_words_and_shared_parts_of_words_make_texts_similar() {
        let text = "chest pain when climbing stairs";
        assert!(similarity(text, "Chest PAIN, when climbing stairs!") > 0.999);
        assert!(similarity(text, "pain in the chest on a stair climb") > 0.4);
        assert!(similarity(text, "chest pian climbing stiars") > 0.4);
        assert!(similarity(text, "the tenant's deposit was not returned") < 0.2);
        assert!(similarity("tenant", "tenants") > 0.25);
        assert!(similarity("don't", "don\u{2019}t") > 0.999);
    }

    #[test]
    fn order_matters_a_little() {
        let same = similarity("dog bites man", "dog bites man");
        let turned = similarity("dog bites man", "man bites dog");
        assert!(turned < same - 0.05 && turned > 0.5, "{turned}");
    }

    #[test]
    fn a_text_without_words_has_a_vector_of_its_own() {
        for text in ["", " ", "!?", "\u{1f600}", "the", "a"] {
            assert!((similarity(text, text) - 1.0).abs() < 1e-5, "{text:?}");
        }
        assert!(similarity("!?", "?!") < 0.999);
    }

    #[test]
    fn vectors_stay_the_same_from_version_to_version() {
        // A change here is a new embedder with a new name: stored vectors would not match.
        let embedder = HashingEmbedder::new(8);
        let vector = embedder.embed("Chest pain when climbing stairs");
        let bits: Vec<u32> = vector.iter().map(|value| value.to_bits()).collect();
        assert_eq!(bits, GOLDEN_BITS, "{vector:?}");
        assert_eq!(embedder.name(), "hashing-v1-8");
    }

    const GOLDEN_BITS: [u32; 8] = [
        3205877174, 1048022143, 3201526099, 1033063774, 3179552465, 3204806414, 1047508223,
        1050403659,
    ];

    proptest! {
        #[test]
        fn every_text_has_a_unit_vector(text in "\\PC{0,60}", dimensions in 0usize..50) {
            let embedder = HashingEmbedder::new(dimensions);
            let vector = embedder.embed(&text);
            prop_assert_eq!(vector.len(), embedder.dimensions());
            let norm = vector.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            prop_assert!((norm - 1.0).abs() < 1e-5, "{} {}", norm, text);
        }
    }
}
