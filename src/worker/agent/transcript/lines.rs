//! Cuts a stream of bytes into lines.

/// A line may have at most this many bytes; the agent program prints whole images as one line.
pub const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A buffer that grew beyond this is given back after its line.
const BUFFER_BYTES_KEPT: usize = 1024 * 1024;

/// Holds the beginning of a line until its end arrives. Longer lines are passed over and counted.
#[derive(Debug)]
pub struct Lines {
    partial: Vec<u8>,
    line_bytes_max: usize,
    overlong: bool,
    passed_over: u64,
}

impl Default for Lines {
    fn default() -> Self {
        Self::with_limit(LINE_BYTES_MAX)
    }
}

impl Lines {
    pub fn with_limit(line_bytes_max: usize) -> Self {
        Self { partial: Vec::new(), line_bytes_max, overlong: false, passed_over: 0 }
    }

    /// Calls `line` for every line that `chunk` completes, without its newline.
    pub fn push(&mut self, chunk: &[u8], mut line: impl FnMut(&[u8])) {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                None => self.keep(piece),
                Some(whole) if self.partial.is_empty() && !self.overlong && whole.len() <= self.line_bytes_max => {
                    line(whole);
                }
                Some(rest) => {
                    self.keep(rest);
                    self.end(&mut line);
                }
            }
        }
    }

    /// The stream ended: what stands there without a newline is a line too.
    pub fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            self.end(&mut line);
        }
    }

    /// How many lines were too long.
    pub fn passed_over(&self) -> u64 {
        self.passed_over
    }

    fn keep(&mut self, piece: &[u8]) {
        if self.overlong {
            return;
        }
        if self.partial.len() + piece.len() > self.line_bytes_max {
            self.overlong = true;
            self.passed_over += 1;
            self.partial = Vec::new();
        } else {
            self.partial.extend_from_slice(piece);
        }
    }

    fn end(&mut self, line: &mut impl FnMut(&[u8])) {
        if !self.overlong {
            line(&self.partial);
        }
        self.overlong = false;
        if self.partial.capacity() > BUFFER_BYTES_KEPT {
            self.partial = Vec::new();
        } else {
            self.partial.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(limit: usize, chunks: &[&str]) -> (Vec<String>, u64) {
        let mut lines = Lines::with_limit(limit);
        let mut seen = Vec::new();
        for chunk in chunks {
            lines.push(chunk.as_bytes(), |line| seen.push(String::from_utf8_lossy(line).into_owned()));
        }
        lines.finish(|line| seen.push(String::from_utf8_lossy(line).into_owned()));
        (seen, lines.passed_over())
    }

    #[test]
    fn lines_are_the_same_wherever_the_chunks_end() {
        let whole = cut(100, &["one\ntwo\n\nthree"]).0;
        assert_eq!(whole, ["one", "two", "", "three"]);
        assert_eq!(cut(100, &["o", "ne\ntw", "o\n", "\nthr", "ee"]).0, whole);
    }

    #[test]
    fn overlong_line_is_passed_over_and_the_next_one_is_read() {
        assert_eq!(cut(4, &["aaaaa\nbb\n"]), (vec!["bb".to_owned()], 1));
        assert_eq!(cut(4, &["aaa", "aa", "aaaaaaa\nbb\ncccc\n"]), (vec!["bb".to_owned(), "cccc".to_owned()], 1));
        assert_eq!(cut(4, &["bb\naaaaaaa"]), (vec!["bb".to_owned()], 1));
    }
}
