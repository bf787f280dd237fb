//! A rough reader of Rust text: blanks comments and literals, measures
//! functions by their braces.
//!
//! Invariant: masked text has the same number of lines and characters as the
//! original, so positions carry over. It does not parse Rust.

/// A function and its length in lines, from the `fn` line to its last brace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

/// Blanks comments, strings and character literals; keeps line breaks.
pub(crate) fn mask(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut masked = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end > at {
            for &c in chars.get(at..end).unwrap_or_default() {
                masked.push(if c == '\n' { '\n' } else { ' ' });
            }
            at = end;
        } else {
            masked.push(chars.get(at).copied().unwrap_or(' '));
            at += 1;
        }
    }
    masked
}

fn char_at(chars: &[char], at: usize) -> char {
    chars.get(at).copied().unwrap_or('\0')
}

/// Where the comment or literal that begins at `at` ends; `at` when none does.
fn literal_end(chars: &[char], at: usize) -> usize {
    match (char_at(chars, at), char_at(chars, at + 1)) {
        ('/', '/') => line_end(chars, at),
        ('/', '*') => block_end(chars, at),
        ('"', _) => string_end(chars, at + 1),
        ('r', '"' | '#') if !after_word(chars, at) => raw_end(chars, at + 1, at),
        ('b', 'r') if matches!(char_at(chars, at + 2), '"' | '#') && !after_word(chars, at) => {
            raw_end(chars, at + 2, at)
        }
        ('\'', _) => char_end(chars, at),
        _ => at,
    }
}

fn after_word(chars: &[char], at: usize) -> bool {
    at.checked_sub(1).is_some_and(|before| {
        let c = char_at(chars, before);
        c.is_alphanumeric() || c == '_'
    })
}

fn line_end(chars: &[char], at: usize) -> usize {
    (at..chars.len())
        .find(|&i| char_at(chars, i) == '\n')
        .unwrap_or(chars.len())
}

fn block_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0usize;
    let mut i = at;
    while i < chars.len() {
        match (char_at(chars, i), char_at(chars, i + 1)) {
            ('/', '*') => {
                depth += 1;
                i += 2;
            }
            ('*', '/') => {
                depth = depth.saturating_sub(1);
                i += 2;
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    chars.len()
}

fn string_end(chars: &[char], from: usize) -> usize {
    let mut i = from;
    while i < chars.len() {
        match char_at(chars, i) {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// The end of `r#"…"#`; `hashes_at` is where the hashes or the quote begin.
fn raw_end(chars: &[char], hashes_at: usize, start: usize) -> usize {
    let hashes = chars
        .iter()
        .skip(hashes_at)
        .take_while(|&&c| c == '#')
        .count();
    if char_at(chars, hashes_at + hashes) != '"' {
        return start;
    }
    let mut i = hashes_at + hashes + 1;
    while i < chars.len() {
        let closes = char_at(chars, i) == '"' && (1..=hashes).all(|n| char_at(chars, i + n) == '#');
        if closes {
            return i + hashes + 1;
        }
        i += 1;
    }
    chars.len()
}

/// The end of a character literal; a lifetime is none.
fn char_end(chars: &[char], at: usize) -> usize {
    if char_at(chars, at + 1) == '\\' {
        return (at + 3..chars.len())
            .find(|&i| char_at(chars, i) == '\'')
            .map_or(chars.len(), |i| i + 1);
    }
    if char_at(chars, at + 2) == '\'' {
        at + 3
    } else {
        at
    }
}

/// Every function with a body in masked text.
pub(crate) fn functions(masked: &str) -> Vec<Function> {
    let lines: Vec<&str> = masked.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        if let Some(length) = body_length(lines.get(index..).unwrap_or_default()) {
            found.push(Function {
                name,
                line: index + 1,
                lines: length,
            });
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let (before, after) = line.split_once("fn ")?;
    let clean = before.split_whitespace().all(|word| {
        matches!(word, "pub" | "async" | "const" | "unsafe" | "extern") || word.starts_with("pub(")
    });
    let name: String = after
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (clean && !name.is_empty()).then_some(name)
}

/// Lines until the brace that closes the first one; none when a `;` comes first.
fn body_length(lines: &[&str]) -> Option<usize> {
    let mut depth = 0usize;
    let mut brackets = 0usize;
    for (index, line) in lines.iter().enumerate() {
        for c in line.chars() {
            match c {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets = brackets.saturating_sub(1),
                ';' if depth == 0 && brackets == 0 => return None,
                '{' => depth += 1,
                '}' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return Some(index + 1);
                    }
                }
                _ => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_blanked() {
        let text = "let a = \"}{\"; // }\nlet b = r#\"\"}\"#; /* { /* } */ */ let c = '}'; let d: &'a str;";
        let masked = mask(text);
        assert!(!masked.contains('}') && !masked.contains('{'));
        assert!(masked.contains("&'a str"));
        assert_eq!(masked.chars().count(), text.chars().count());
    }

    #[test]
    fn an_escaped_quote_does_not_end_a_string() {
        assert_eq!(mask(r#""a\"}" x"#).trim(), "x");
        assert_eq!(mask(r"'\'' x").trim(), "x");
    }

    #[test]
    fn a_function_is_measured_to_its_last_brace() {
        let text = "pub(crate) fn a(\n    x: [u8; 3],\n) -> u8 {\n    if x { 1 } else { 2 }\n}\nfn b();\nconst fn c() {}\n";
        let found = functions(&mask(text));
        let short: Vec<_> = found
            .iter()
            .map(|f| (f.name.as_str(), f.line, f.lines))
            .collect();
        assert_eq!(short, [("a", 1, 5), ("c", 7, 1)]);
    }
}
