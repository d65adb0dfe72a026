//! Parts of a `multipart/form-data` body (RFC 7578), files included.

use crate::error::{Code, Error, Result};

/// Most parts of a body.
const PARTS_MAX: usize = 500;

/// One part.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    pub file_name: Option<String>,
    pub bytes: Vec<u8>,
}

/// # Errors
/// SH0902 when the body is not what its content type says.
pub fn parts(content_type: &str, body: &[u8]) -> Result<Vec<Part>> {
    let boundary = parameter(content_type, "boundary").filter(|boundary| (1..=70).contains(&boundary.len()));
    let boundary = boundary.ok_or_else(|| broken("it has no boundary"))?;
    let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
    let body = [b"\r\n", body].concat();
    let first = find(&body, &delimiter).ok_or_else(|| broken("its boundary does not occur"))?;
    let mut rest = &body[first + delimiter.len()..];
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        if parts.len() >= PARTS_MAX {
            return Err(broken("it has too many parts"));
        }
        let start = find(rest, b"\r\n").ok_or_else(|| broken("it is cut off"))? + 2;
        let end = find(&rest[start..], &delimiter).ok_or_else(|| broken("it is cut off"))? + start;
        parts.push(part(&rest[start..end]).ok_or_else(|| broken("a part has no readable head"))?);
        rest = &rest[end + delimiter.len()..];
    }
    Ok(parts)
}

fn part(bytes: &[u8]) -> Option<Part> {
    let cut = find(bytes, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..cut]).ok()?;
    let disposition = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let name = parameter(disposition, "name")?;
    Some(Part { name, file_name: parameter(disposition, "filename"), bytes: bytes[cut + 4..].to_vec() })
}

fn parameter(header: &str, name: &str) -> Option<String> {
    header.split(';').skip(1).find_map(|parameter| {
        let (have, value) = parameter.split_once('=')?;
        have.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

fn broken(why: &str) -> Error {
    Error::new(Code::Usage, format!("the multipart body is broken: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_files_come_apart_and_keep_their_bytes() {
        let body = b"--x\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nreview\r\n--x\r\n\
            Content-Disposition: form-data; name=\"file\"; filename=\"a/b.bin\"\r\nContent-Type: x/y\r\n\r\n\x00\r\n--y\r\n--x--\r\n";
        let parts = parts("multipart/form-data; boundary=x", body).unwrap();
        assert_eq!((parts[0].name.as_str(), parts[0].bytes.as_slice()), ("name", b"review".as_slice()));
        let file = (parts[1].file_name.as_deref(), parts[1].bytes.as_slice());
        assert_eq!(file, (Some("a/b.bin"), b"\x00\r\n--y".as_slice()));
        assert_eq!(parts.len(), 2);
    }

    #[test]
    fn broken_bodies_are_refused() {
        for body in ["", "--x", "--x\r\n", "--x\r\nfoo\r\n\r\nbar", "--x\r\n\r\n\r\n--x--", "nothing"] {
            assert!(parts("multipart/form-data; boundary=x", body.as_bytes()).is_err(), "{body:?}");
        }
        assert!(parts("multipart/form-data", b"--x--").is_err());
    }
}
