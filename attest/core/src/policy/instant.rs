//! A moment in a policy or an allowed-signers file: RFC 3339 in UTC, and OpenSSH's YYYYMMDD[HHMM[SS]]Z. Both without a time zone
//! database: a moment that means something else on another machine is refused. It must never read a clock.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

/// Years that are understood: what comes before is a mistake, and four digits end at 9999.
const YEARS: std::ops::RangeInclusive<u64> = 1970..=9999;

impl Instant {
    /// `2027-01-15T08:00:00Z`. The offset must be `Z`: a policy is read by people in several places.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let (date, time) = text.strip_suffix(['Z', 'z'])?.split_once(['T', 't'])?;
        let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
        let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
        Self::from_civil([year, month, day], [hour, minute, second])
    }

    /// `20270115Z`, `202701150800Z` or `20270115080000Z` (ssh-keygen(1), ALLOWED SIGNERS).
    pub fn from_openssh(text: &str) -> Option<Self> {
        let digits = text.strip_suffix('Z')?;
        if !digits.bytes().all(|b| b.is_ascii_digit()) || ![8, 12, 14].contains(&digits.len()) {
            return None;
        }
        let field = |from: usize, to: usize| digits.get(from..to).map_or(Some(0), |f| f.parse().ok());
        Self::from_civil(
            [field(0, 4)?, field(4, 6)?, field(6, 8)?],
            [field(8, 10)?, field(10, 12)?, field(12, 14)?],
        )
    }

    fn from_civil([year, month, day]: [u64; 3], [hour, minute, second]: [u64; 3]) -> Option<Self> {
        let known = YEARS.contains(&year)
            && (1..=12).contains(&month)
            && (1..=days_in(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        known.then(|| Self(days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second))
    }
}

/// Fields of exactly these widths, all digits.
fn numbers(text: &str, separator: char, widths: [usize; 3]) -> Option<[u64; 3]> {
    let mut fields = text.split(separator);
    let mut out = [0; 3];
    for (value, width) in out.iter_mut().zip(widths) {
        let field = fields.next()?;
        if field.len() != width || !field.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *value = field.parse().ok()?;
    }
    fields.next().is_none().then_some(out)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let leap_days = |y: u64| y / 4 - y / 100 + y / 400;
    let years = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969);
    let months: u64 = (1..month).map(|m| days_in(year, m)).sum();
    years + months + day - 1
}

impl fmt::Display for Instant {
    /// RFC 3339 in UTC; later than the year 9999 as a number of seconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut days, rest) = (self.0 / 86_400, self.0 % 86_400);
        let mut year = 1970;
        while year <= *YEARS.end() && days >= 365 + u64::from(is_leap(year)) {
            days -= 365 + u64::from(is_leap(year));
            year += 1;
        }
        if year > *YEARS.end() {
            return write!(f, "{} s after 1970", self.0);
        }
        let mut month = 1;
        while days >= days_in(year, month) {
            days -= days_in(year, month);
            month += 1;
        }
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        write!(
            f,
            "{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z",
            days + 1
        )
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::from_rfc3339(&text)
            .ok_or_else(|| de::Error::custom("a time is expected as \"2027-01-15T08:00:00Z\" (RFC 3339, in UTC)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar_and_read_back() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T00:00:00Z", 951_782_400),
            ("2027-01-15T08:00:00Z", 1_800_000_000),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
        ] {
            assert_eq!(Instant::from_rfc3339(text), Some(Instant(seconds)), "{text}");
            assert_eq!(Instant(seconds).to_string(), text);
        }
        for day in 0..60_000 {
            let moment = Instant(day * 86_400 + 12_345);
            assert_eq!(Instant::from_rfc3339(&moment.to_string()), Some(moment));
        }
    }

    #[test]
    fn openssh_moments_agree() {
        for text in ["20270115Z", "202701150000Z", "20270115000000Z"] {
            assert_eq!(
                Instant::from_openssh(text),
                Instant::from_rfc3339("2027-01-15T00:00:00Z")
            );
        }
        assert_eq!(Instant::from_openssh("202701150801Z"), Some(Instant(1_800_000_060)));
    }

    #[test]
    fn what_is_no_moment_or_means_another_one_elsewhere_is_refused() {
        for text in [
            "",
            "2027-01-15",
            "2027-01-15T08:00:00",
            "2027-01-15T08:00:00+01:00",
            "2027-01-15T08:00:00.5Z",
            "2027-02-29T00:00:00Z",
            "2027-13-01T00:00:00Z",
            "2027-00-01T00:00:00Z",
            "2027-01-01T24:00:00Z",
            "2027-01-01T23:59:60Z",
            "1969-12-31T23:59:59Z",
            "+027-01-01T00:00:00Z",
            "2027-01-01T00:00:00ZZ",
        ] {
            assert_eq!(Instant::from_rfc3339(text), None, "{text}");
        }
        for text in [
            "20270115",
            "2027Z",
            "20270132Z",
            "2027011508Z",
            "+0270115Z",
            "２0270115Z",
        ] {
            assert_eq!(Instant::from_openssh(text), None, "{text}");
        }
    }
}
