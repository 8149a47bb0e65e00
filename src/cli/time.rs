//! Points in time as people write and read them. UTC only: no zone database, no locale.

use crate::{
    clock::{civil, now},
    protocol::Timestamp,
};

const DAY: u64 = 86_400;

/// Reads `1767225600`, `2026-01-01`, `2026-01-01T12:30:00Z`, or an age such as `90s`, `15m`, `2h`,
/// `7d`, `4w`.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    age(text).map(|age| now().saturating_sub(age)).or_else(|| date(text)).ok_or_else(|| {
        "write seconds since 1970, a date in UTC (2026-01-31 or 2026-01-31T12:30:00Z) or an age (15m, 2h, 7d)"
            .to_owned()
    })
}

fn age(text: &str) -> Option<u64> {
    let unit = match text.as_bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 3_600,
        b'd' => DAY,
        b'w' => 7 * DAY,
        _ => return None,
    };
    text[..text.len() - 1].parse::<u64>().ok()?.checked_mul(unit)
}

fn date(text: &str) -> Option<Timestamp> {
    let (day, clock) = match text.split_once(['T', ' ']) {
        Some((day, clock)) => (day, clock.strip_suffix('Z').unwrap_or(clock)),
        None => (text, "00:00:00"),
    };
    let [year, month, date] = numbers(day, '-')?;
    let [hour, minute, second] = numbers(clock, ':')?;
    let last = days_of_month(year, month)?;
    let valid = (1970..=9_999).contains(&year) && (1..=last).contains(&date);
    if !valid || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let months: u64 = (1..month).filter_map(|month| days_of_month(year, month)).sum();
    Some((years + months + date - 1) * DAY + hour * 3_600 + minute * 60 + second)
}

fn numbers(text: &str, separator: char) -> Option<[u64; 3]> {
    let mut parts = text.split(separator).map(|part| part.parse::<u64>().ok());
    let all = [parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?];
    parts.next().is_none().then_some(all)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of_month(year: u64, month: u64) -> Option<u64> {
    match month {
        2 if is_leap(year) => Some(29),
        2 => Some(28),
        4 | 6 | 9 | 11 => Some(30),
        1..=12 => Some(31),
        _ => None,
    }
}

/// `2026-01-31 12:30:00`, UTC.
pub fn format(at: Timestamp) -> String {
    let (days, clock) = (at / DAY, at % DAY);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (clock / 3_600, clock / 60 % 60, clock % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_dates_and_ages() {
        assert_eq!(parse("17"), Ok(17));
        assert_eq!(parse("1970-01-01"), Ok(0));
        assert_eq!(parse("2024-02-29T23:59:59Z"), Ok(1_709_251_199));
        assert_eq!(parse("2026-01-31 12:30"), Ok(1_769_862_600));
        let hour_ago = parse("60m").unwrap();
        assert!((3_600..3_605).contains(&(now() - hour_ago)));
        for bad in [
            "",
            "m",
            "-1",
            "yesterday",
            "2026-13-01",
            "2025-02-29",
            "2026-01-00",
            "2026-01-01T25:00:00",
            "1-2-3-4",
            "2é",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for at in [0, 951_782_400, 951_868_799, 1_709_251_199, 4_107_542_400, 253_402_300_799] {
            assert_eq!(parse(&format(at)), Ok(at), "{}", format(at));
        }
        assert_eq!(format(1_769_862_600), "2026-01-31 12:30:00");
        format(u64::MAX / 2);
    }
}
