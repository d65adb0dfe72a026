//! How signatures and keys are written: strict hexadecimal and strict base64.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

use crate::model::provider::schema::verify::Encoding;

/// Operators copy secrets with and without their padding.
const LENIENT_PADDING: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a sender wrote: no white space, no other alphabet, no missing padding, no leftover bits.
pub fn decode(encoding: Encoding, text: &str) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Hex => hex::decode(text).ok(),
        Encoding::Base64 => STANDARD.decode(text).ok(),
    }
}

pub fn encode(encoding: Encoding, bytes: &[u8]) -> String {
    match encoding {
        Encoding::Hex => hex::encode(bytes),
        Encoding::Base64 => STANDARD.encode(bytes),
    }
}

/// What an operator configured.
pub fn decode_key(encoding: Encoding, bytes: &[u8]) -> Option<Vec<u8>> {
    let text = bytes.trim_ascii();
    match encoding {
        Encoding::Hex => hex::decode(text).ok(),
        Encoding::Base64 => LENIENT_PADDING.decode(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_read_strictly() {
        assert_eq!(decode(Encoding::Base64, "AA=="), Some(vec![0]));
        for bad in ["AA", "AA=", "AA== ", "AB==", "A-==", "", "AA==\n"] {
            assert!(decode(Encoding::Base64, bad).is_none_or(|bytes| bytes.is_empty()), "{bad:?}");
        }
        for bad in ["0", "0g", "00 ", " 00", "0x00"] {
            assert_eq!(decode(Encoding::Hex, bad), None, "{bad:?}");
        }
    }
}
