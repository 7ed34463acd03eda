//! Detach keys: a sequence in a client's input that ends its attachment (source: moby/term `proxy.go`,
//! escapeProxy). The start of a sequence is held back; when it breaks off it is passed on with the byte
//! that broke it, which does not start a new sequence.

/// Watches one client's input.
#[derive(Debug)]
pub(super) struct DetachKeys {
    keys: Vec<u8>,
    /// How many keys are held back.
    matched: usize,
}

/// What came out of some input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Go on.
    Attached,
    /// The sequence is complete; input after it is dropped.
    Detached,
}

impl DetachKeys {
    /// `None` for an empty sequence, which never detaches.
    pub(super) fn new(keys: Vec<u8>) -> Option<DetachKeys> {
        (!keys.is_empty()).then_some(DetachKeys { keys, matched: 0 })
    }

    /// Passes input on to `out`.
    pub(super) fn filter(&mut self, input: &[u8], out: &mut Vec<u8>) -> Outcome {
        for byte in input {
            if *byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return Outcome::Detached;
                }
            } else {
                out.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
                out.push(*byte);
            }
        }
        Outcome::Attached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(keys: &[u8], inputs: &[&[u8]]) -> (Vec<u8>, Outcome) {
        let mut out = Vec::new();
        let mut filter = DetachKeys::new(keys.to_vec()).unwrap();
        for input in inputs {
            if filter.filter(input, &mut out) == Outcome::Detached {
                return (out, Outcome::Detached);
            }
        }
        (out, Outcome::Attached)
    }

    #[test]
    fn detaches_on_the_sequence_however_it_arrives() {
        let want = (b"x".to_vec(), Outcome::Detached);
        assert_eq!(run(b"\x10\x11", &[b"x\x10\x11y"]), want);
        assert_eq!(run(b"\x10\x11", &[b"x\x10", b"\x11"]), want);
        assert_eq!(run(b"a", &[b"xa"]), want);
    }

    #[test]
    fn a_broken_sequence_is_passed_on() {
        assert_eq!(run(b"abc", &[b"xab", b"y"]), (b"xaby".to_vec(), Outcome::Attached));
        assert_eq!(run(b"abc", &[b"ab"]), (Vec::new(), Outcome::Attached));
        // As in Docker: the second ctrl-p breaks the sequence and starts none.
        assert_eq!(run(b"\x10\x11", &[b"\x10\x10\x11"]), (b"\x10\x10\x11".to_vec(), Outcome::Attached));
    }
}
