//! Messages as bytes: `[version u16 LE][postcard]` (see `wharf_spec::shim`).

use crate::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};
use wharf_spec::shim::VERSION;

/// A message of this build's version.
///
/// # Errors
/// Never for the types of the protocol.
pub(super) fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>> {
    postcard::to_extend(message, VERSION.to_le_bytes().to_vec())
        .map_err(|e| Error::Protocol(format!("encode message: {e}")))
}

/// A message of any version since the first.
///
/// # Errors
/// For a later version and for nonsense.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let (version, body) =
        bytes.split_first_chunk().ok_or_else(|| Error::Protocol("message without a version".into()))?;
    let version = u16::from_le_bytes(*version);
    if !(1..=VERSION).contains(&version) {
        return Err(Error::Protocol(format!("message of protocol version {version}")));
    }
    postcard::from_bytes(body).map_err(|e| Error::Protocol(format!("decode message: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_spec::shim::{Call, Request};

    #[test]
    fn messages_survive_and_nonsense_does_not() {
        let request = Request { seq: 7, call: Call::Pause };
        let bytes = encode(&request).unwrap();
        assert_eq!(decode::<Request>(&bytes).unwrap(), request);
        assert!(decode::<Request>(&bytes[..1]).is_err());
        assert!(decode::<Request>(&bytes[..3]).is_err());
        assert!(decode::<Request>(&[9, 9, 0, 0]).is_err());
    }
}
