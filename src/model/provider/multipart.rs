//! The text fields of a `multipart/form-data` body (RFC 7578). Files are left out: nothing here reads attachments.

use super::decode::bad;
use super::incoming::Incoming;
use crate::error::Result;

pub const MEDIA_TYPE: &str = "multipart/form-data";

/// Most parts of a body.
const PARTS_MAX: usize = 500;

/// The fields in order. Parts with a file name are passed over.
pub fn read(incoming: &Incoming) -> Result<Vec<(String, String)>> {
    let boundary = boundary(incoming).ok_or_else(|| bad("the multipart body has no boundary"))?;
    let broken = || bad("the multipart body is broken");
    let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
    let body = [b"\r\n", incoming.body.as_ref()].concat();
    let mut rest = body.as_slice();
    rest = &rest[find(rest, &delimiter).ok_or_else(broken)? + delimiter.len()..];
    let mut fields = Vec::new();
    for _ in 0..=PARTS_MAX {
        if rest.starts_with(b"--") {
            return Ok(fields);
        }
        let start = find(rest, b"\r\n").ok_or_else(broken)? + 2;
        rest = &rest[start..];
        let end = find(rest, &delimiter).ok_or_else(broken)?;
        if let Some(field) = part(&rest[..end]).ok_or_else(broken)? {
            fields.push(field);
        }
        rest = &rest[end + delimiter.len()..];
    }
    Err(bad(format!("the multipart body has more than {PARTS_MAX} parts")))
}

fn boundary(incoming: &Incoming) -> Option<String> {
    let content_type = std::str::from_utf8(incoming.headers.single("content-type")?).ok()?;
    let value = parameter(content_type, "boundary")?;
    (1..=70).contains(&value.len()).then_some(value)
}

/// `None` when the part is broken, `Some(None)` when it is a file.
fn part(bytes: &[u8]) -> Option<Option<(String, String)>> {
    let cut = if bytes.starts_with(b"\r\n") { 0 } else { find(bytes, b"\r\n\r\n")? + 2 };
    let (head, value) = (std::str::from_utf8(&bytes[..cut]).ok()?, &bytes[cut + 2..]);
    let disposition = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    if parameter(disposition, "filename").is_some() {
        return Some(None);
    }
    let name = parameter(disposition, "name")?;
    Some(Some((name, String::from_utf8(value.to_vec()).ok()?)))
}

fn parameter(header: &str, name: &str) -> Option<String> {
    header.split(';').skip(1).find_map(|parameter| {
        let (have, value) = parameter.split_once('=')?;
        have.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::provider::incoming::Headers;

    fn fields(body: &str) -> Option<Vec<(String, String)>> {
        let headers: Headers = [("Content-Type", "multipart/form-data; boundary=\"x-y\"")].into_iter().collect();
        read(&Incoming::new("POST", "https://h.example/", headers, body.to_owned())).ok()
    }

    #[test]
    fn text_fields_are_read_and_files_passed_over() {
        let body = "--x-y\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\nabc\r\nd\r\n\
                    --x-y\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.png\"\r\n\r\nPNG\r\n\
                    --x-y\r\ncontent-disposition: form-data; name=\"empty\"\r\n\r\n\r\n--x-y--\r\n";
        let wanted = vec![("token".to_owned(), "abc\r\nd".to_owned()), ("empty".to_owned(), String::new())];
        assert_eq!(fields(body), Some(wanted));
    }

    #[test]
    fn broken_bodies_are_refused() {
        for broken in ["", "--x-y", "--x-y\r\n", "--x-y\r\nA: b\r\n\r\nc", "--x-y\r\nA: b\r\n\r\nc\r\n--x-y--"] {
            assert_eq!(fields(broken), None, "{broken:?}");
        }
    }
}
