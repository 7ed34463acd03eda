//! Times: of shims, of records, for people.

use jiff::Timestamp;
use wharf_api::time::Time;
use wharf_spec::shim;

/// A time or Go's zero time.
pub(crate) fn or_zero(time: Option<Timestamp>) -> Time {
    time.map_or(Time::ZERO, Time)
}

/// Go's zero time is no time.
pub(crate) fn not_zero(time: Time) -> Option<Timestamp> {
    (!time.is_zero()).then_some(time.0)
}

/// A shim's time. One outside of what can be written down becomes the epoch.
pub(crate) fn from_shim(time: shim::Timestamp) -> Timestamp {
    Timestamp::new(time.seconds, i32::try_from(time.nanos).unwrap_or(0)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A duration as `docker ps` says it (source: docker/go-units `HumanDuration`).
pub(crate) fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds as f64 / 3600.0).round() as i64);
    match seconds {
        i64::MIN..1 => "Less than a second".into(),
        1 => "1 second".into(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".into(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_for_people() {
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (61, "About a minute"),
            (120, "2 minutes"),
            (46 * 60, "46 minutes"),
            (60 * 60, "About an hour"),
            (24 * 3600, "24 hours"),
            (3 * 24 * 3600, "3 days"),
            (15 * 24 * 3600, "2 weeks"),
            (70 * 24 * 3600, "2 months"),
            (800 * 24 * 3600, "2 years"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }
}
