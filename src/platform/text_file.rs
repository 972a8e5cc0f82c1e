//! Reads files that people write: UTF-8, with a useful message for every other encoding.

use std::{fmt, fs, io, path::Path};

/// Why bytes are not a text file that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodingError {
    /// The file begins with the byte order mark of UTF-8.
    ByteOrderMark,
    /// The file is in another encoding of Unicode, by its byte order mark or its zero bytes.
    Other(&'static str),
    /// The bytes at this line and column are not UTF-8: an old encoding, or a damaged file.
    Invalid {
        /// 1-based.
        line: usize,
        /// 1-based, in bytes.
        column: usize,
    },
}

impl fmt::Display for EncodingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const REMEDY: &str = "save the file as UTF-8 without a byte order mark";
        match self {
            Self::ByteOrderMark => write!(f, "the file begins with a byte order mark (EF BB BF); {REMEDY}"),
            Self::Other(encoding) => write!(f, "the file is {encoding}, not UTF-8; {REMEDY}"),
            Self::Invalid { line, column } => write!(
                f,
                "line {line}, column {column}: these bytes are not UTF-8, perhaps an older encoding such as \
                CP949, Shift_JIS or Latin-1; {REMEDY}"
            ),
        }
    }
}

impl std::error::Error for EncodingError {}

/// Decodes the content of a text file.
///
/// # Errors
/// [`EncodingError`] when it is not plain UTF-8.
pub fn decode(content: Vec<u8>) -> Result<String, EncodingError> {
    const UTF_16: &str = "UTF-16";
    const UTF_32: &str = "UTF-32";
    match content.as_slice() {
        [0xEF, 0xBB, 0xBF, ..] => return Err(EncodingError::ByteOrderMark),
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] | [0, 0, 0, _, ..] | [_, 0, 0, 0, ..] => {
            return Err(EncodingError::Other(UTF_32));
        }
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [0, _, ..] | [_, 0, ..] => {
            return Err(EncodingError::Other(UTF_16));
        }
        _ => {}
    }
    String::from_utf8(content).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line_start = valid
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        EncodingError::Invalid {
            line: valid.split(|byte| *byte == b'\n').count(),
            column: valid.len() - line_start + 1,
        }
    })
}

/// Reads a text file.
///
/// # Errors
/// The file system's error; an [`EncodingError`] as [`io::ErrorKind::InvalidData`].
pub fn read_text(file: &Path) -> io::Result<String> {
    decode(fs::read(file)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_encoding_is_named_with_a_remedy() {
        let utf_16: Vec<u8> = "{\"a\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (content, words) in [
            (b"\xEF\xBB\xBF{}".to_vec(), "byte order mark (EF BB BF)"),
            (b"\xFF\xFE{\0}\0".to_vec(), "UTF-16"),
            (utf_16, "UTF-16"),
            (b"\xFF\xFE\0\0{\0\0\0".to_vec(), "UTF-32"),
            (b"{\n \"\xC0\xD3\"}".to_vec(), "line 2, column 3"),
        ] {
            let message = decode(content).unwrap_err().to_string();
            assert!(
                message.contains(words) && message.contains("save the file as UTF-8"),
                "{message}"
            );
        }
        assert_eq!(decode("{\"이름\": 1}".into()).unwrap(), "{\"이름\": 1}");
        assert_eq!(decode(Vec::new()).unwrap(), "");
    }
}
