//! Many words that are looked for in one field, any of which is enough: one pass over the text finds
//! whether there is one, however many they are.

use super::ast::{Node, Path, Scalar, Test};
use aho_corasick::AhoCorasick;
use serde_json::Value;
use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;

/// Fewer words are looked for one by one.
const WORDS_MIN: usize = 4;

/// The nodes of an `$and` or `$or`, and for an `$or` the words among them.
#[derive(Debug, Clone)]
pub(super) struct Nodes {
    nodes: Box<[Node]>,
    words: Box<[Words]>,
    /// The nodes that are not among the words.
    others: Box<[u32]>,
}

impl Nodes {
    /// Of which all must hold.
    pub(super) fn all(nodes: Box<[Node]>) -> Nodes {
        Nodes { nodes, words: Box::default(), others: Box::default() }
    }

    /// Of which one must hold.
    pub(super) fn any(nodes: Box<[Node]>) -> Nodes {
        let mut groups: Vec<(&Path, Vec<(u32, &str)>)> = Vec::new();
        for (at, node) in nodes.iter().enumerate() {
            if let Node::Test(path, Test::Contains(Scalar::Str(word))) = node {
                let word = (at as u32, &**word);
                match groups.iter_mut().find(|(other, _)| *other == path) {
                    Some((_, words)) => words.push(word),
                    None => groups.push((path, vec![word])),
                }
            }
        }
        groups.retain(|(_, words)| words.len() >= WORDS_MIN);
        let (mut words, mut among) = (Vec::new(), HashSet::new());
        for (path, members) in groups {
            // Too many for one automaton: they are looked for one by one.
            let Some(made) = Words::new(path, members.iter().map(|(_, word)| *word)) else {
                continue;
            };
            words.push(made);
            among.extend(members.iter().map(|(at, _)| *at));
        }
        let others = (0..nodes.len() as u32).filter(|at| !among.contains(at)).collect();
        Nodes { words: words.into(), others, nodes }
    }

    /// The words of an `$or`, field by field.
    pub(super) fn words(&self) -> &[Words] {
        &self.words
    }

    /// What an `$or` has besides.
    pub(super) fn others(&self) -> impl Iterator<Item = &Node> {
        self.others.iter().map(|at| &self.nodes[*at as usize])
    }

    /// Bytes that the words take.
    pub(super) fn words_bytes(&self) -> usize {
        self.words.iter().map(|words| words.finder.memory_usage()).sum()
    }
}

impl Deref for Nodes {
    type Target = [Node];

    fn deref(&self) -> &[Node] {
        &self.nodes
    }
}

impl PartialEq for Nodes {
    fn eq(&self, other: &Self) -> bool {
        self.nodes == other.nodes
    }
}

/// Words that are looked for in one field.
#[derive(Clone)]
pub(super) struct Words {
    path: Path,
    words: Box<[Scalar]>,
    finder: AhoCorasick,
    whole: HashSet<Box<str>>,
}

impl Words {
    fn new<'w>(path: &Path, words: impl Iterator<Item = &'w str> + Clone) -> Option<Words> {
        Some(Words {
            path: path.clone(),
            words: words.clone().map(|word| Scalar::Str(word.into())).collect(),
            finder: AhoCorasick::new(words.clone()).ok()?,
            whole: words.map(Box::from).collect(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The words, each once for every time that it is named.
    pub(super) fn words(&self) -> &[Scalar] {
        &self.words
    }

    /// Whether one of them is in a text.
    pub(super) fn are_in(&self, text: &[u8]) -> bool {
        self.finder.is_match(text)
    }

    /// As `$contains` of each would: in a text, or as an element of an array.
    pub(super) fn matches(&self, metadata: &Value) -> bool {
        match self.path.find(metadata) {
            Some(Value::String(text)) => self.are_in(text.as_bytes()),
            Some(Value::Array(elements)) => elements
                .iter()
                .any(|element| element.as_str().is_some_and(|word| self.whole.contains(word))),
            _ => false,
        }
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words").field("path", &self.path).field("words", &self.words).finish()
    }
}

#[cfg(test)]
mod tests {
    use crate::filter::Filter;
    use crate::filter::index::{FilterIndex, FilterIndexBuilder};
    use serde_json::{Value, json};

    /// Values of a field with and without words, short ones and prose that the index does not keep.
    fn records() -> Vec<Value> {
        let prose = |n: usize| format!("{} w{n:03}x", "lorem ipsum dolor ".repeat(20));
        let texts = (0..200).map(|n| match n % 4 {
            0 => json!({"t": format!("a w{n:03}x"), "n": n}),
            1 => json!({"t": prose(n), "n": n}),
            2 => json!({"t": [format!("w{n:03}x"), "other", n], "n": n}),
            _ => json!({"n": n}),
        });
        texts.collect()
    }

    #[test]
    fn many_words_are_found_as_each_alone() {
        let word = |n: usize| json!({"t": {"$contains": format!("w{n:03}x")}});
        let words: Vec<Value> = (0..200).step_by(3).map(word).collect();
        let mut more = words.clone();
        more.push(json!({"n": 199}));
        more.extend((0..5).map(|n| json!({"u": {"$contains": format!("{n}")}})));
        let mut builder = FilterIndexBuilder::new();
        records().iter().for_each(|record| builder.push(Some(record)));
        let index = FilterIndex::open(builder.finish().into()).unwrap();
        for (parts, negated) in [(&words, false), (&more, false), (&more, true)] {
            let or = json!({"$or": parts});
            let json = if negated { json!({"$not": or}) } else { or };
            let filter = Filter::parse(&json).unwrap();
            assert_eq!(Filter::parse(&filter.to_json()).unwrap(), filter);
            let alone: Vec<Filter> = parts.iter().map(|one| Filter::parse(one).unwrap()).collect();
            let selection = filter.select(&index).unwrap();
            for (row, record) in records().iter().enumerate() {
                let expected = alone.iter().any(|one| one.matches(record)) != negated;
                assert_eq!(filter.matches(record), expected, "{record}");
                let row = row as u32;
                let found = match selection.unsure.contains(row) {
                    true => filter.matches(record),
                    false => selection.rows.contains(row),
                };
                assert_eq!(found, expected, "{row}: {record}");
            }
        }
        let empty = (0..4).map(|_| json!({"t": {"$contains": ""}})).collect::<Vec<_>>();
        let empty = Filter::parse(&json!({"$or": empty})).unwrap();
        assert!(empty.matches(&json!({"t": "x"})) && !empty.matches(&json!({"t": ["x"]})));
    }
}
