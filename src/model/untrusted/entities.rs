//! Character references of HTML, decoded once.

/// Longest reference between `&` and `;` in bytes.
const REFERENCE_BYTES_MAX: usize = 24;

/// The named ones that stand for syntax, blanks or invisible characters; others are left as they are written.
const NAMED: [(&str, &str); 33] = [
    ("amp", "&"),
    ("AMP", "&"),
    ("lt", "<"),
    ("LT", "<"),
    ("gt", ">"),
    ("GT", ">"),
    ("quot", "\""),
    ("QUOT", "\""),
    ("apos", "'"),
    ("nbsp", " "),
    ("ensp", " "),
    ("emsp", " "),
    ("thinsp", " "),
    ("Tab", "\t"),
    ("NewLine", "\n"),
    ("shy", ""),
    ("zwnj", ""),
    ("zwj", ""),
    ("lrm", ""),
    ("rlm", ""),
    ("ZeroWidthSpace", ""),
    ("NoBreak", ""),
    ("InvisibleTimes", ""),
    ("InvisibleComma", ""),
    ("commat", "@"),
    ("num", "#"),
    ("sol", "/"),
    ("bsol", "\\"),
    ("excl", "!"),
    ("lbrack", "["),
    ("rbrack", "]"),
    ("grave", "`"),
    ("colon", ":"),
];

pub(super) fn decode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.bytes().take(REFERENCE_BYTES_MAX).position(|byte| byte == b';');
        match end.and_then(|end| Some((end, character(&rest[1..end])?))) {
            Some((end, decoded)) => {
                out.push_str(&decoded);
                rest = &rest[end + 1..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn character(reference: &str) -> Option<String> {
    let Some(number) = reference.strip_prefix('#') else {
        return NAMED.iter().find(|(name, _)| *name == reference).map(|(_, text)| (*text).to_owned());
    };
    let code = match number.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16).ok()?,
        None => number.parse().ok()?,
    };
    Some(char::from_u32(code).filter(|c| *c != '\0').unwrap_or('\u{fffd}').to_string())
}
