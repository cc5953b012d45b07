//! Times on the command line: `now`, `10m` and `-1h` from now, `2026-11-21T06:00:00Z`, epoch ms.

use std::time::{SystemTime, UNIX_EPOCH};

use krocket_config::units::parse_duration;

const DAY_MS: i64 = 86_400_000;

/// A time, epoch ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) i64);

/// For clap.
pub(crate) fn moment(text: &str) -> Result<Moment, String> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    moment_at(text, now_ms).ok_or_else(|| {
        "expected a time such as 2026-11-21T06:00:00Z, 10m (from now), -1h (ago) or milliseconds since 1970".to_owned()
    })
}

/// For clap: a duration as ms.
pub(crate) fn duration_ms(text: &str) -> Result<i64, String> {
    let duration = parse_duration(text).and_then(|duration| i64::try_from(duration.as_millis()).ok());
    duration.ok_or_else(|| "expected a duration such as 500ms, 30s, 10m, 1h or 7d".to_owned())
}

fn moment_at(text: &str, now_ms: i64) -> Option<Moment> {
    if text == "now" {
        return Some(Moment(now_ms));
    }
    if let Ok(ms) = text.parse::<u64>() {
        return i64::try_from(ms).ok().map(Moment);
    }
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if let Ok(ms) = duration_ms(rest) {
        return now_ms.checked_add(sign * ms).map(Moment);
    }
    calendar(text).map(Moment)
}

/// `2026-11-21`, `2026-11-21T06:00`, with seconds, fractions, `Z` or a space for `T`. UTC.
fn calendar(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':');
    let hour: i64 = time.next()?.parse().ok()?;
    let minute: i64 = time.next()?.parse().ok()?;
    let seconds: f64 = time.next().map_or(Some(0.0), |seconds| seconds.parse().ok())?;
    let valid = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0.0..60.0).contains(&seconds);
    let days = days_since_1970(year, month, day);
    (valid && civil(days) == (year, month, day))
        .then(|| days * DAY_MS + hour * 3_600_000 + minute * 60_000 + (seconds * 1000.0).round() as i64)
}

/// As RFC 3339, UTC.
pub(crate) fn show(ms: i64) -> String {
    let (year, month, day) = civil(ms.div_euclid(DAY_MS));
    let of_day = ms.rem_euclid(DAY_MS);
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", of_day % 1000)
}

/// Gregorian; years begin in March so that the leap day is their last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_again() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_240_800_000, "2026-11-21T06:00:00.000Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(show(ms), text);
            assert_eq!(moment_at(text, 7), Some(Moment(ms)), "{text}");
        }
    }

    #[test]
    fn times_are_said_in_several_ways() {
        let now = 1_000_000_000_000;
        for (text, ms) in [
            ("now", now),
            ("10m", now + 600_000),
            ("+1s", now + 1000),
            ("-1h", now - 3_600_000),
            ("1795240800000", 1_795_240_800_000),
            ("2026-11-21", 1_795_219_200_000),
            ("2026-11-21 06:00", 1_795_240_800_000),
        ] {
            assert_eq!(moment_at(text, now), Some(Moment(ms)), "{text}");
        }
        for text in ["", "soon", "-5", "2026-02-29", "2026-13-01", "2026-11-21T24:00", "2026-11"] {
            assert_eq!(moment_at(text, now), None, "{text}");
        }
    }
}
