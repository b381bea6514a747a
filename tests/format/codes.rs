//! What the codes of a segment should say, found out from its vectors by the document's rules. Codes are made in the
//! machine's arithmetic and lose precision: close is enough, where a wrong place or order is far off.

use crate::decode::kernel::Head;
use crate::decode::segment::Segment;

/// Panics where codes are of other vectors than the segment's.
pub fn check(segment: &Segment) {
    let head = &segment.kernel.head;
    for (number, (row, (scalar, short))) in
        segment.rows.iter().zip(&segment.kernel.codes).enumerate()
    {
        let vector: Vec<f64> =
            row.vector.iter().map(|bits| f64::from(f32::from_bits(*bits))).collect();
        let placed = placed(head, &segment.contents.metric, &vector);
        let of_centre: Vec<f64> = placed
            .iter()
            .zip(&head.centre)
            .map(|(value, centre)| value - f64::from(*centre))
            .collect();
        let size = norm(&of_centre) + norm(&placed) + f64::from(head.radius);
        let expected = if head.exact { &placed } else { &of_centre };
        for (value, expected) in scalar.values.iter().zip(expected) {
            let off = (f64::from(*value) - expected).abs();
            assert!(off <= 0.6 * f64::from(scalar.step) + 0.005 * size, "row {number}: {scalar:?}");
        }
        for ((value, is_cut), component) in short.components.iter().zip(&head.components) {
            let direction = component.direction.iter().map(|value| f64::from(*value));
            let expected: f64 = direction.zip(&of_centre).map(|(a, b)| a * b).sum();
            let off = (f64::from(*value) - expected).abs();
            let most = 0.6 * f64::from(component.step) + 0.01 * size;
            assert!(*is_cut || off <= most, "row {number}: {value}, not {expected}");
        }
        let bias = match head.by_length {
            true => norm(&vector) * f64::from(head.scale),
            false => 0.5 * norm(&of_centre).powi(2),
        };
        for found in [scalar.bias, short.bias] {
            let off = (f64::from(found) - bias).abs();
            assert!(off <= 0.01 * (size * size + bias), "row {number}: bias {found}, not {bias}");
        }
    }
    for (row, neighbours) in (0..).zip(&segment.kernel.neighbours) {
        assert!(!neighbours.contains(&row), "row {row} is its own neighbour");
    }
}

/// A vector in the space that codes are of.
fn placed(head: &Head, metric: &str, vector: &[f64]) -> Vec<f64> {
    let scaled = |scale: f64| vector.iter().map(|value| value * scale).collect::<Vec<f64>>();
    let length = norm(vector);
    let to_one = if length == 0.0 { 0.0 } else { 1.0 / length };
    match metric {
        "cosine" => scaled(to_one),
        "dot" if head.by_length => scaled(to_one),
        "dot" => {
            let mut placed = scaled(head.scale.into());
            let rest = f64::from(head.radius).powi(2) - norm(&placed).powi(2);
            placed.push(rest.max(0.0).sqrt());
            placed
        }
        _ => scaled(head.scale.into()),
    }
}

fn norm(vector: &[f64]) -> f64 {
    vector.iter().map(|value| value * value).sum::<f64>().sqrt()
}
