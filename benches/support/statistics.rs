//! Medians, and how far to trust them.

use std::fmt;

/// The median of a sample with its 95 % interval.
///
/// The interval is the one of the sign test: two order statistics, chosen by the binomial distribution alone, so that nothing
/// is assumed of how the sample is distributed. Below six values no two of them reach 95 %, and it is the range of the sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// Of a sample that is not empty.
    pub(crate) fn of(mut sample: Vec<f64>) -> Self {
        sample.sort_by(f64::total_cmp);
        let count = sample.len();
        let outside = values_outside(count);
        Self {
            median: f64::midpoint(sample[(count - 1) / 2], sample[count / 2]),
            low: sample[outside],
            high: sample[count - 1 - outside],
        }
    }
}

/// `1.003 [0.998, 1.010]`, with the precision asked for.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(3);
        let Self { median, low, high, .. } = self;
        write!(f, "{median:.digits$} [{low:.digits$}, {high:.digits$}]")
    }
}

/// How many values to leave out at each end: the most for which the rest still covers the median at 95 %.
fn values_outside(count: usize) -> usize {
    let mut term = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let mut tail = term;
    let mut outside = 0;
    while tail <= 0.025 {
        outside += 1;
        term *= ratio(count + 1 - outside, outside);
        tail += term;
    }
    outside.saturating_sub(1)
}

#[expect(clippy::cast_precision_loss, reason = "sample sizes")]
fn ratio(a: usize, b: usize) -> f64 {
    a as f64 / b as f64
}
