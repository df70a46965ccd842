//! Growth and its limits.

use std::fmt;
use std::str::FromStr;

/// A percentage in steps of 0.01%, so that comparisons are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percentage(u64);

/// The text is not a percentage.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not a percentage: expected a number from 0 to 1000000, with or without a percent sign, such as 10% or 7.5"
)]
pub struct ParsePercentageError(String);

impl FromStr for Percentage {
    type Err = ParsePercentageError;

    fn from_str(text: &str) -> Result<Self, ParsePercentageError> {
        match text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>() {
            Ok(number) if (0.0..=1e6).contains(&number) => Ok(Self((number * 100.0).round() as u64)),
            _ => Err(ParsePercentageError(text.to_owned())),
        }
    }
}

impl fmt::Display for Percentage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0 as f64 / 100.0)
    }
}

/// How much something grew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    /// Size before.
    pub old: u64,
    /// Size after.
    pub new: u64,
}

impl Growth {
    /// Whether it grew by more than `limit`. Growth from 0 always exceeds the limit.
    pub fn exceeds(&self, limit: Percentage) -> bool {
        u128::from(self.new) * 10_000 > u128::from(self.old) * (10_000 + u128::from(limit.0))
    }
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.old, self.new) {
            (0, 0) => f.write_str("+0.0%"),
            (0, _) => f.write_str("new"),
            (old, new) => write!(f, "{:+.1}%", (new as f64 - old as f64) / old as f64 * 100.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_compared_exactly() {
        for (old, new, most, exceeds, text) in [
            (100, 110, "10%", false, "+10.0%"),
            (100, 111, "10%", true, "+11.0%"),
            (1_000, 1_076, "7.5", true, "+7.6%"),
            (1_000, 1_075, "7.5 %", false, "+7.5%"),
            (100, 100, "0", false, "+0.0%"),
            (100, 50, "0", false, "-50.0%"),
            (0, 0, "0", false, "+0.0%"),
            (0, 1, "1000000%", true, "new"),
            (u64::MAX, u64::MAX, "0%", false, "+0.0%"),
        ] {
            let growth = Growth { old, new };
            assert_eq!(growth.exceeds(most.parse().unwrap()), exceeds, "{old} to {new} by {most}");
            assert_eq!(growth.to_string(), text);
        }
        for bad in ["", "%", "ten", "-1%", "NaN", "inf", "10%%"] {
            assert!(bad.parse::<Percentage>().is_err(), "{bad:?}");
        }
        assert_eq!("7.50%".parse::<Percentage>().unwrap().to_string(), "7.5%");
    }
}
