//! Limits of block devices: `path:weight`, `path:rate` (source: docker/cli `opts/throttledevice.go`,
//! `opts/weightdevice.go`).

use super::size;
use wharf_api::container::{ThrottleDevice, WeightDevice};

fn split(text: &str) -> Result<(&str, &str), String> {
    let (path, value) = text
        .split_once(':')
        .filter(|(path, _)| !path.is_empty())
        .ok_or_else(|| format!("bad format: {text}"))?;
    if path.starts_with("/dev/") {
        Ok((path, value))
    } else {
        Err(format!("bad format for device path: {text}"))
    }
}

/// `path:rate` with a rate in bytes per second.
///
/// # Errors
/// In Docker's words.
pub(crate) fn bps(text: &str) -> Result<ThrottleDevice, String> {
    let (path, value) = split(text)?;
    let rate = size::ram_in_bytes(value).ok().and_then(|rate| u64::try_from(rate).ok()).ok_or_else(|| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        )
    })?;
    Ok(ThrottleDevice { path: path.to_owned(), rate })
}

/// `path:rate` with a rate in operations per second.
///
/// # Errors
/// In Docker's words.
pub(crate) fn iops(text: &str) -> Result<ThrottleDevice, String> {
    let (path, value) = split(text)?;
    let rate = value.parse().map_err(|_| {
        format!("invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer")
    })?;
    Ok(ThrottleDevice { path: path.to_owned(), rate })
}

/// `path:weight` with 0 or a weight from 10 to 1000.
///
/// # Errors
/// In Docker's words.
pub(crate) fn weight(text: &str) -> Result<WeightDevice, String> {
    let (path, value) = split(text)?;
    let weight = value.parse().ok().filter(|w| *w == 0 || (10..=1000).contains(w));
    let weight = weight.ok_or_else(|| format!("invalid weight for device: {text}"))?;
    Ok(WeightDevice { path: path.to_owned(), weight })
}

/// Whether it is [`bps`].
pub(crate) fn check_bps(text: &str) -> Result<(), String> {
    bps(text).map(drop)
}

/// Whether it is [`iops`].
pub(crate) fn check_iops(text: &str) -> Result<(), String> {
    iops(text).map(drop)
}

/// Whether it is [`weight`].
pub(crate) fn check_weight(text: &str) -> Result<(), String> {
    weight(text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_docker_does() {
        assert_eq!(bps("/dev/sda:1mb").unwrap().rate, 1 << 20);
        assert_eq!(iops("/dev/sda:1000").unwrap().rate, 1000);
        assert_eq!(weight("/dev/sda:200").unwrap().weight, 200);
        assert_eq!(bps("x").unwrap_err(), "bad format: x");
        assert_eq!(bps("sda:1").unwrap_err(), "bad format for device path: sda:1");
        assert_eq!(weight("/dev/sda:5").unwrap_err(), "invalid weight for device: /dev/sda:5");
        assert!(bps("/dev/sda:x").unwrap_err().starts_with("invalid rate for device: /dev/sda:x."));
        assert!(iops("/dev/sda:-1").is_err());
    }
}
