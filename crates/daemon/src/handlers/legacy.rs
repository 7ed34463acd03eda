//! Adding keys to answers for clients of older versions (source: moby `daemon/internal/compat`).

use serde_json::{Map, Value};

/// Adds what is missing, or null, in `target`; objects are merged.
pub(super) fn add_missing(target: &mut Value, extra: Value) {
    let (Value::Object(target), Value::Object(extra)) = (target, extra) else { return };
    merge(target, extra);
}

fn merge(target: &mut Map<String, Value>, extra: Map<String, Value>) {
    for (key, value) in extra {
        match target.get_mut(&key) {
            Some(Value::Object(known)) => {
                if let Value::Object(value) = value {
                    merge(known, value);
                }
            }
            Some(known) if !known.is_null() => {}
            _ => {
                target.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_there_stays() {
        let mut value = json!({"a": 1, "b": {"c": 2}, "n": null});
        add_missing(&mut value, json!({"a": 9, "b": {"c": 9, "d": 3}, "n": 4, "z": 5}));
        assert_eq!(value, json!({"a": 1, "b": {"c": 2, "d": 3}, "n": 4, "z": 5}));
    }
}
