//! Makes one number of many rounds: on a shared machine the minimum is what the work costs, the median what was seen.

/// The smallest of the values; nothing of none.
#[must_use]
pub fn minimum(values: &[f64]) -> Option<f64> {
    values.iter().copied().min_by(f64::total_cmp)
}

/// The largest of the values; nothing of none.
#[must_use]
pub fn maximum(values: &[f64]) -> Option<f64> {
    values.iter().copied().max_by(f64::total_cmp)
}

/// The middle value, or the mean of the two in the middle; nothing of none.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2)?;
    if sorted.len().is_multiple_of(2) {
        let lower = sorted.get((sorted.len() / 2).checked_sub(1)?)?;
        Some(f64::midpoint(*lower, *upper))
    } else {
        Some(*upper)
    }
}

/// The median of the quotients, round by round: two candidates of one round had the same neighbours on the machine.
#[must_use]
pub fn paired_ratio(values: &[f64], others: &[f64]) -> Option<f64> {
    let ratios: Vec<f64> = values
        .iter()
        .zip(others)
        .filter(|(_, other)| **other > 0.0)
        .map(|(value, other)| value / other)
        .collect();
    median(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_any_order() {
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
        assert_eq!(median(&[]), None);
        assert_eq!(
            (minimum(&[3.0, 2.0, 4.0]), maximum(&[3.0, 2.0, 4.0])),
            (Some(2.0), Some(4.0))
        );
    }

    #[test]
    fn a_machine_that_slows_down_between_rounds_does_not_change_a_paired_ratio() {
        let (ours, theirs) = ([10.0, 20.0, 40.0], [5.0, 10.0, 20.0]);
        assert_eq!(paired_ratio(&ours, &theirs), Some(2.0));
        assert_eq!(paired_ratio(&ours, &[0.0, 0.0, 20.0]), Some(2.0));
        assert_eq!(paired_ratio(&[], &theirs), None);
    }
}
