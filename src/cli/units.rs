//! Durations and sizes as people write them: `30s`, `500ms`, `off`; `64KiB`, `1MiB`, `4096`.

use std::time::Duration;

/// A number and a unit: `ms`, `s`, `m` or `h`. `off` is no limit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match text {
        "off" => Ok(Duration::MAX),
        _ => finite_duration(text).map_err(|error| format!("{error}; or off, for no limit")),
    }
}

/// The same without `off`. The number may have a fraction, as in `0.5s`: down to a nanosecond.
pub(super) fn finite_duration(text: &str) -> Result<Duration, String> {
    const HOW: &str = "write a number and a unit, like 500ms, 0.5s, 30s, 5m or 1h";
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let ns_per_unit: u128 = match unit {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 60 * 60 * 1_000_000_000,
        _ => return Err(HOW.into()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return Err(HOW.into());
    }
    let too_long = || format!("{number}{unit} is too long: take at most 1000000h");
    let whole: u128 = whole.parse().map_err(|_| too_long())?;
    let fraction: u128 =
        fraction.parse::<u128>().expect("nine digits") * 10u128.pow(9 - fraction.len() as u32);
    let ns = whole.checked_mul(ns_per_unit).ok_or_else(too_long)? + fraction * ns_per_unit / 1_000_000_000;
    match ns {
        0 => Err("it must be more than 0".into()),
        _ if ns > 1_000_000 * 3_600_000_000_000 => Err(too_long()),
        _ => Ok(Duration::new((ns / 1_000_000_000) as u64, (ns % 1_000_000_000) as u32)),
    }
}

/// A whole number of bytes, or with a unit: `B`, `KiB`, `MiB`, `GiB`. From 1 byte to 1 GiB.
pub(super) fn size(text: &str) -> Result<usize, String> {
    size_up_to(text, 1 << 30, "1GiB")
}

/// The same with another bound.
pub(super) fn size_up_to(text: &str, bytes_max: usize, shown: &str) -> Result<usize, String> {
    let (number, unit) = split(text);
    let bytes_per_unit = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("write a whole number of bytes, or one with a unit, like 4096, 64KiB or 1MiB".into()),
    };
    match number.parse::<usize>().ok().and_then(|number| number.checked_mul(bytes_per_unit)) {
        Some(bytes) if (1..=bytes_max).contains(&bytes) => Ok(bytes),
        _ => Err(format!("it must be from 1 byte to {shown}")),
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
        assert_eq!(duration("0.5s"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0.25ms"), Ok(Duration::from_micros(250)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(duration("off"), Ok(Duration::MAX));
        for wrong in [
            "",
            "30",
            "s",
            "-1s",
            "1.s",
            ".5s",
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
