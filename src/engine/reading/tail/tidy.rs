//! Blocks are merged, rid of dead rows, and given codes, beside the reads and the log's entries: what
//! is made of some blocks takes their place when it is there.

use super::block::{self, Block, Merged};
use super::{Shape, Tail};
use crate::base::ids::Seq;
use std::sync::Arc;

/// Blocks are not merged past this size: a query works on blocks one after another, and a merge
/// copies its rows.
const BLOCK_ROWS_MAX: usize = 65_536;
/// Blocks of fewer rows are compared one by one: that costs no more than looking at their codes.
const CODED_ROWS_MIN: usize = 1_024;
/// Rows without codes that reads may meet: to look at so many takes about two milliseconds.
const UNCODED_ROWS_MAX: usize = 8_192;

/// Blocks of a tail that are to become one.
#[derive(Debug)]
pub struct Tidying {
    shape: Shape,
    base: Seq,
    inputs: Vec<Arc<Block>>,
    /// Blocks whose codes may be an example.
    examples: Vec<Arc<Block>>,
}

/// What became of them.
#[derive(Debug)]
pub struct Tidied {
    inputs: Vec<Arc<Block>>,
    merged: Merged,
}

impl Tidying {
    /// Bytes of what is copied.
    pub fn bytes(&self) -> usize {
        self.inputs.iter().map(|block| block.bytes()).sum()
    }

    /// Copies the rows. CPU-heavy.
    pub fn run(self) -> Tidied {
        let Tidying { shape, base, inputs, examples } = self;
        let mut merged = block::merge(shape.dimensions, base, &inputs);
        if let Some(metric) = shape.metric
            && merged.block.rows() >= CODED_ROWS_MIN
        {
            merged.block.code(metric, examples.iter().filter_map(|block| block.flat()));
        }
        Tidied { inputs, merged }
    }
}

impl Tail {
    /// What is to be tidied next, if anything.
    pub fn untidy(&self) -> Option<Tidying> {
        let (blocks, base) = (&self.state.blocks[..], self.state.base);
        let dead = |block: &Block| block.live_rows(base) * 2 < block.rows();
        let uncoded = |block: &Block| block.flat().is_none() && block.rows() >= CODED_ROWS_MIN;
        let is_untidy =
            |block: &&Arc<Block>| dead(block) || (self.shape.metric.is_some() && uncoded(block));
        let mergeable = mergeable(blocks, base);
        let inputs = match mergeable.len() {
            0 | 1 => blocks.iter().find(is_untidy).map(std::slice::from_ref)?,
            _ => mergeable,
        };
        let mut examples: Vec<Arc<Block>> =
            blocks.iter().filter(|block| block.flat().is_some()).cloned().collect();
        // What fits the most rows is the likeliest to fit these.
        examples.sort_by_key(|block| std::cmp::Reverse(block.rows()));
        Some(Tidying { shape: self.shape, base, inputs: inputs.to_vec(), examples })
    }

    /// Whether there are so many rows without codes that reads had better wait for them.
    pub fn is_slow(&self) -> bool {
        let uncoded = self.state.blocks.iter().filter(|block| block.flat().is_none());
        self.shape.metric.is_some()
            && uncoded.map(|block| block.rows()).sum::<usize>() > UNCODED_ROWS_MAX
    }

    /// Puts what was made of some blocks in their place; says whether they were all there still.
    pub fn replace(&mut self, Tidied { inputs, mut merged }: Tidied) -> bool {
        let blocks = &mut self.state.blocks;
        let is_first =
            |block: &Arc<Block>| inputs.first().is_some_and(|first| Arc::ptr_eq(block, first));
        let Some(start) = blocks.iter().position(is_first) else { return false };
        let range = start..start + inputs.len();
        let same = blocks.get(range.clone()).is_some_and(|found| {
            found.iter().zip(&inputs).all(|(found, input)| Arc::ptr_eq(found, input))
        });
        if same {
            merged.end_as_in(&inputs);
            let block = Some(merged.block).filter(|block| !block.is_empty(self.state.base));
            blocks.splice(range, block.map(Arc::new));
        }
        same
    }
}

/// The blocks at the end none of which is more than twice as large as those behind it together: so
/// that a row is copied once for each time that its block has grown half as large again.
fn mergeable(blocks: &[Arc<Block>], base: Seq) -> &[Arc<Block>] {
    let Some((last, _)) = blocks.split_last() else { return blocks };
    let (mut start, mut rows) = (blocks.len() - 1, last.live_rows(base));
    while let Some(older) = start.checked_sub(1).map(|at| &blocks[at]) {
        let live = older.live_rows(base);
        if older.rows() > rows * 2 || rows + live > BLOCK_ROWS_MAX {
            break;
        }
        (start, rows) = (start - 1, rows + live);
    }
    &blocks[start..]
}
