//! Durations and sizes as people write them: `30s`, `500ms`, `off`; `64KiB`, `1MiB`, `4096`.

use std::time::Duration;

/// A whole number and a unit: `ms`, `s`, `m` or `h`. `off` is no limit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text == "off" {
        return Ok(Duration::MAX);
    }
    let (number, unit) = split(text);
    let milliseconds_per_unit = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        _ => return Err("write a whole number and a unit, like 500ms, 30s, 5m or 1h; or off".into()),
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(milliseconds_per_unit)) {
        Some(0) => Err("it must be more than nothing; write off for no limit".into()),
        Some(milliseconds) => Ok(Duration::from_millis(milliseconds)),
        None => Err(format!("{number:?} is not a whole number in range")),
    }
}

/// A whole number of bytes, or with a unit: `B`, `KiB`, `MiB`, `GiB`. From 1 byte to 1 GiB.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let (number, unit) = split(text);
    let bytes_per_unit = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("write a whole number of bytes, or one with a unit, like 4096, 64KiB or 1MiB".into()),
    };
    match number.parse::<usize>().ok().and_then(|number| number.checked_mul(bytes_per_unit)) {
        Some(bytes @ 1..=0x4000_0000) => Ok(bytes),
        _ => Err("it must be from 1 byte to 1GiB".into()),
    }
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(duration("off"), Ok(Duration::MAX));
        for wrong in [
            "",
            "30",
            "s",
            "-1s",
            "1.5s",
            "30 s",
            "30sec",
            "0s",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("1B"), Ok(1));
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("1GiB"), Ok(1 << 30));
        for wrong in ["", "0", "KiB", "64KB", "64k", "-1", "2GiB", "1.5MiB", "18446744073709551615KiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
