//! Deciding about all rows at once, with three answers for each: it passes, it does not, or the index
//! cannot tell. They combine as in Kleene's logic.

use super::super::ast::{List, Node, Path, Scalar, Test};
use super::super::words::Words;
use super::postings::Union;
use super::read::{Bound, Facet, Field};
use super::{FilterIndex, Selection, Spend};
use crate::base::Result;
use roaring::RoaringBitmap;

/// What is known of all rows. The sets are disjoint; rows in neither do not pass.
struct Answer {
    /// The rows that pass.
    sure: RoaringBitmap,
    /// The rows that may pass.
    unsure: RoaringBitmap,
}

pub(super) fn select(node: &Node, index: &FilterIndex, spend: Spend<'_>) -> Result<Selection> {
    let Answer { mut sure, mut unsure } = evaluate(node, Within { index, spend })?;
    let damaged = index.damaged()?;
    if !damaged.is_empty() {
        sure -= &damaged;
        unsure -= &damaged;
    }
    Ok(Selection { rows: sure | &unsure, unsure })
}

/// So many rows of a set are combined with another's in a unit of work, about.
const ROWS_PER_UNIT: u32 = 1 << 17;
/// Strings that are looked through between two words about the work, and the units that they take.
const STRINGS_AT_A_TIME: usize = 128;
const UNITS_PER_STRINGS: u64 = 8;

/// Where to look, and who may end it.
#[derive(Clone, Copy)]
struct Within<'a> {
    index: &'a FilterIndex,
    spend: Spend<'a>,
}

/// The parser bounds the depth of the recursion.
fn evaluate(node: &Node, within: Within<'_>) -> Result<Answer> {
    let Within { index, spend } = within;
    spend(1 + u64::from(index.rows() / ROWS_PER_UNIT))?;
    match node {
        Node::All => Ok(Answer { sure: all(index), unsure: RoaringBitmap::new() }),
        Node::And(nodes) => {
            let mut answer = Answer { sure: all(index), unsure: RoaringBitmap::new() };
            let mut left = &nodes[..];
            while let [node, rest @ ..] = left
                && !(answer.sure.is_empty() && answer.unsure.is_empty())
            {
                left = match bounds(left) {
                    Some((path, bounds)) => {
                        let rest = &left[bounds.len()..];
                        answer.and(ask(path, Positive::Within(bounds), within)?);
                        rest
                    }
                    None => {
                        answer.and(evaluate(node, within)?);
                        rest
                    }
                };
            }
            Ok(answer)
        }
        Node::Or(nodes) => {
            let mut answer = Answer { sure: RoaringBitmap::new(), unsure: RoaringBitmap::new() };
            for words in nodes.words() {
                answer.or(ask(words.path(), Positive::ContainsAny(words), within)?);
            }
            for node in nodes.others() {
                answer.or(evaluate(node, within)?);
            }
            Ok(answer)
        }
        Node::Not(node) => Ok(evaluate(node, within)?.not(index)),
        Node::Test(path, test) => {
            let (test, negated) = positive(test);
            let answer = ask(path, test, within)?;
            Ok(if negated { answer.not(index) } else { answer })
        }
    }
}

fn ask(path: &Path, test: Positive<'_>, within: Within<'_>) -> Result<Answer> {
    let index = within.index;
    match index.field(path.whole())? {
        Some(field) => Asked::new(&field, within).answer(test),
        // Missing everywhere, unless it is one of those that were left out.
        None => Ok(Answer { sure: RoaringBitmap::new(), unsure: index.left_out()? }),
    }
}

/// The field and the operands of the order tests at the front that are all on one field. A record has
/// at most one value that they look at, so they are the bounds of one range of values.
fn bounds(nodes: &[Node]) -> Option<(&Path, Vec<Bound<'_>>)> {
    let order = |node| match node {
        &Node::Test(ref path, Test::Order(order, ref scalar)) => Some((path, (order, scalar))),
        _ => None,
    };
    let (path, _) = order(nodes.first()?)?;
    let on_path = nodes.iter().map_while(order).take_while(|(other, _)| *other == path);
    Some((path, on_path.map(|(_, bound)| bound).collect()))
}

fn all(index: &FilterIndex) -> RoaringBitmap {
    let mut all = RoaringBitmap::new();
    all.insert_range(0..index.rows());
    all
}

impl Answer {
    fn and(&mut self, other: Answer) {
        if self.unsure.is_empty() && other.unsure.is_empty() {
            self.sure &= other.sure;
            return;
        }
        let possible = (&self.sure | &self.unsure) & (&other.sure | other.unsure);
        self.sure &= other.sure;
        self.unsure = possible - &self.sure;
    }

    fn or(&mut self, other: Answer) {
        self.sure |= other.sure;
        self.unsure |= other.unsure;
        self.unsure -= &self.sure;
    }

    fn not(self, index: &FilterIndex) -> Answer {
        Answer { sure: all(index) - self.sure - &self.unsure, unsure: self.unsure }
    }
}

/// A test that is false where the field is missing.
enum Positive<'t> {
    Equal(&'t [Scalar]),
    /// Passes all of these.
    Within(Vec<Bound<'t>>),
    Exists,
    Contains(&'t Scalar),
    ContainsAny(&'t Words),
    StartsWith(&'t str),
}

/// The test without its negation, and whether there is one.
fn positive(test: &Test) -> (Positive<'_>, bool) {
    match test {
        Test::Eq(scalar) => (Positive::Equal(std::slice::from_ref(scalar)), false),
        Test::Ne(scalar) => (Positive::Equal(std::slice::from_ref(scalar)), true),
        Test::In(list) => (Positive::Equal(List::values(list)), false),
        Test::Nin(list) => (Positive::Equal(List::values(list)), true),
        Test::Order(order, scalar) => (Positive::Within(vec![(*order, scalar)]), false),
        Test::Exists(exists) => (Positive::Exists, !exists),
        Test::Contains(scalar) => (Positive::Contains(scalar), false),
        Test::StartsWith(prefix) => (Positive::StartsWith(prefix), false),
    }
}

/// A field while it is tested.
struct Asked<'a> {
    field: &'a Field<'a>,
    sure: Union<'a>,
    unsure: Union<'a>,
    spend: Spend<'a>,
}

impl<'a> Asked<'a> {
    fn new(field: &'a Field<'a>, within: Within<'a>) -> Self {
        let union = || Union::new(field.postings, within.index.rows());
        Asked { field, sure: union(), unsure: union(), spend: within.spend }
    }

    fn answer(mut self, test: Positive<'_>) -> Result<Answer> {
        let Field { exists, single, elements, .. } = self.field;
        match test {
            Positive::Equal(scalars) => {
                for scalar in scalars {
                    self.holds(single, scalar)?;
                    self.holds(elements, scalar)?;
                }
            }
            Positive::Within(bounds) => {
                for at in single.numbers.within(&bounds)? {
                    self.sure.add(single.numbers.references.u32(at)?)?;
                }
                if bounds.iter().all(|(_, scalar)| matches!(scalar, Scalar::Str(_))) {
                    self.strings(single.strings.within(&bounds)?)?;
                }
            }
            Positive::Exists => self.sure.add(*exists)?,
            Positive::Contains(scalar) => {
                self.holds(elements, scalar)?;
                if let Scalar::Str(part) = scalar {
                    let finder = memchr::memmem::Finder::new(&**part);
                    self.with_text(|text| finder.find(text).is_some())?;
                }
            }
            Positive::ContainsAny(words) => {
                for word in words.words() {
                    self.holds(elements, word)?;
                }
                self.with_text(|text| words.are_in(text))?;
            }
            Positive::StartsWith(prefix) => {
                self.strings(single.strings.starting_with(prefix.as_bytes())?)?;
            }
        }
        let sure = self.sure.finish();
        let unsure = self.unsure.finish() - &sure;
        Ok(Answer { sure, unsure })
    }

    /// The rows that hold `scalar` in this facet.
    fn holds(&mut self, facet: &Facet<'_>, scalar: &Scalar) -> Result<()> {
        if let Some(reference) = facet.find(scalar)? {
            self.sure.add(reference)?;
        }
        match scalar {
            Scalar::Str(string) => facet.hashes.find(string, &mut |row| self.unsure.insert(row)),
            _ => Ok(()),
        }
    }

    /// The rows of these strings of the field itself; those with a hash only may pass too.
    fn strings(&mut self, which: impl Iterator<Item = usize>) -> Result<()> {
        let single = &self.field.single;
        self.unsure.add(single.hashed_rows)?;
        for at in which {
            self.sure.add(single.strings.references.u32(at)?)?;
        }
        Ok(())
    }

    /// The rows whose own string is as wanted. Looks at each distinct string once, which are
    /// never more than the rows that would have to be read otherwise.
    fn with_text(&mut self, is_wanted: impl Fn(&[u8]) -> bool) -> Result<()> {
        let strings = self.field.single.strings;
        let mut found = Vec::new();
        for at in 0..strings.len() {
            if at % STRINGS_AT_A_TIME == 0 {
                (self.spend)(UNITS_PER_STRINGS)?;
            }
            if is_wanted(strings.get(at)?) {
                found.push(at);
            }
        }
        self.strings(found.into_iter())
    }
}
