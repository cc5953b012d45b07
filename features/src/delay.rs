//! When a record is to be delivered, by its headers: RocketMQ's `MessageConst` names, read as by its `HookUtils`.

use crate::headers::{DELAY, TIMER_DELAY_MS, TIMER_DELAY_SEC, TIMER_DELIVER_MS};
use crate::produce::number;
use krocket_config::rules::ScheduleRules;
use krocket_protocol::records::Record;
use krocket_stack::Refusal;

/// When the record is due, epoch ms; `None` where it asks for no delay. `DELAY` counts before `TIMER_DELAY_SEC`, that
/// before `TIMER_DELAY_MS`, that before `TIMER_DELIVER_MS`; all that are there have to be understood.
pub fn due(record: &Record<'_>, place: i32, rules: &ScheduleRules, now: i64) -> Result<Option<i64>, Refusal> {
    let max = i64::try_from(rules.max_delay.as_millis()).unwrap_or(i64::MAX);
    let after = |name: &str, ms: Option<i64>| {
        let ms = ms.filter(|ms| *ms <= max).ok_or_else(|| too_far(place, name, max))?;
        Ok(Some(now.saturating_add(ms)))
    };
    let level = number(record, place, DELAY, "a delay level")?;
    let seconds = number(record, place, TIMER_DELAY_SEC, "a number of seconds")?;
    let millis = number(record, place, TIMER_DELAY_MS, "a number of milliseconds")?;
    let at = number(record, place, TIMER_DELIVER_MS, "a time in milliseconds since 1970")?;
    if let Some(level) = level {
        // Level 0 is none; above the last one is the last (ScheduleMessageService).
        let Some(index) = usize::try_from(level).unwrap_or(usize::MAX).checked_sub(1) else { return Ok(None) };
        let Some(delay) = rules.levels.get(index).or(rules.levels.last()) else {
            return Err(Refusal::record(place, format!("{DELAY}={level}: no delay levels are configured")));
        };
        return after(DELAY, i64::try_from(delay.as_millis()).ok());
    }
    if let Some(seconds) = seconds {
        return after(TIMER_DELAY_SEC, i64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1000)));
    }
    if let Some(millis) = millis {
        return after(TIMER_DELAY_MS, i64::try_from(millis).ok());
    }
    let Some(at) = at else { return Ok(None) };
    let at = i64::try_from(at).ok().filter(|at| at.saturating_sub(now) <= max);
    at.map(Some).ok_or_else(|| too_far(place, TIMER_DELIVER_MS, max))
}

fn too_far(place: i32, name: &str, max: i64) -> Refusal {
    Refusal::record(place, format!("{name} asks for a longer delay than this topic's max_delay of {max} ms"))
}

#[cfg(test)]
mod tests {
    use krocket_protocol::records::{BatchBuilder, BatchHeader, Header, LastOffset, Records};

    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn read(headers: &[(&str, Option<&[u8]>)]) -> Result<Option<i64>, String> {
        let mut builder = BatchBuilder::new(0, 0);
        let headers: Vec<_> =
            headers.iter().map(|(key, value)| Header { key: key.as_bytes(), value: *value }).collect();
        builder.push(0, 0, None, Some(b"v"), &headers);
        let batch = builder.finish(LastOffset::Trim).expect("builds").expect("a record");
        let records = Records::open(&batch, &BatchHeader::read(&batch).expect("a header"), 1 << 20).expect("opens");
        let record = records.iter().next().expect("a record").expect("sound");
        due(&record, 0, &ScheduleRules::default(), NOW).map_err(|refusal| refusal.message)
    }

    #[test]
    fn delays_are_understood() {
        let cases: &[(&[(&str, &str)], Option<i64>)] = &[
            (&[], None),
            (&[("OTHER", "x")], None),
            (&[("TIMER_DELAY_MS", "1500")], Some(NOW + 1500)),
            (&[("TIMER_DELAY_MS", "0")], Some(NOW)),
            (&[("TIMER_DELAY_SEC", "3")], Some(NOW + 3000)),
            (&[("TIMER_DELIVER_MS", "1700000000777")], Some(NOW + 777)),
            (&[("TIMER_DELIVER_MS", "5")], Some(5)),
            (&[("DELAY", "1")], Some(NOW + 1000)),
            (&[("DELAY", "18")], Some(NOW + 7_200_000)),
            (&[("DELAY", "19")], Some(NOW + 7_200_000)),
            (&[("DELAY", "99999999999999999999")], None),
            (&[("DELAY", "0")], None),
            (&[("TIMER_DELAY_MS", "1"), ("TIMER_DELAY_MS", "2")], Some(NOW + 2)),
            (&[("TIMER_DELAY_MS", "1"), ("TIMER_DELAY_SEC", "2"), ("DELAY", "3")], Some(NOW + 10_000)),
            (&[("TIMER_DELIVER_MS", "1"), ("TIMER_DELAY_MS", "2")], Some(NOW + 2)),
            (&[("TIMER_DELAY_MS", "31536000000")], Some(NOW + 31_536_000_000)),
        ];
        for (headers, wanted) in cases {
            let given: Vec<_> = headers.iter().map(|(key, value)| (*key, Some(value.as_bytes()))).collect();
            let got = read(&given);
            match headers.first() {
                Some((_, value)) if value.len() == 20 => assert!(got.is_err(), "{headers:?}"),
                _ => assert_eq!(got, Ok(*wanted), "{headers:?}"),
            }
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_sentence() {
        let nonsense: [&[u8]; 16] = [
            b"soon",
            b"",
            b" 5",
            b"5 ",
            b"-5",
            b"+5",
            b"1.5",
            b"1e3",
            b"0x10",
            b"5s",
            b"1,000",
            b"\xff\xfe",
            b"\0",
            "٣".as_bytes(),
            b"18446744073709551616",
            b"null",
        ];
        for name in [DELAY, TIMER_DELAY_SEC, TIMER_DELAY_MS, TIMER_DELIVER_MS] {
            for value in nonsense {
                let message = read(&[(name, Some(value))]).expect_err(&format!("{name}={value:?}"));
                assert!(message.contains(name), "{message}");
            }
            read(&[(name, None)]).expect_err("null");
        }
        for (name, value) in [
            (TIMER_DELAY_SEC, "31536001"),
            (TIMER_DELAY_SEC, "18446744073709551615"),
            (TIMER_DELAY_MS, "31536000001"),
            (TIMER_DELAY_MS, "18446744073709551615"),
            (TIMER_DELIVER_MS, "1731536000001"),
            (TIMER_DELIVER_MS, "9223372036854775807"),
        ] {
            let message = read(&[(name, Some(value.as_bytes()))]).expect_err(value);
            assert!(message.contains("max_delay"), "{message}");
        }
        // One that does not count has to be understood all the same.
        read(&[(DELAY, Some(b"1")), (TIMER_DELAY_MS, Some(b"soon"))]).expect_err("soon");
    }
}
