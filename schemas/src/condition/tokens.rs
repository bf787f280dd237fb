//! How many parts a condition has, counted before anything reads it.
//!
//! It need not be exact: what it takes for more parts than there are is refused sooner, and the depth of
//! what was read is bounded besides.

/// Signs of two characters.
const PAIRS: [&str; 6] = ["&&", "||", "==", "!=", "<=", ">="];

/// Counts names, values, signs and brackets; what stands in a comment counts nothing.
pub(super) fn count(text: &str) -> usize {
    let mut rest = text;
    let mut count = 0;
    while let Some(first) = rest.chars().next() {
        let taken = if first.is_whitespace() {
            first.len_utf8()
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else {
            count += 1;
            token(rest, first)
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    count
}

/// Bytes of the token that a text begins with.
fn token(text: &str, first: char) -> usize {
    if is_word(first) {
        let word = text.find(|other: char| !is_word(other));
        let word = word.unwrap_or(text.len());
        let (prefix, after) = text.split_at(word);
        let is_raw = prefix.len() <= 2 && prefix.contains(['r', 'R']);
        return match after.chars().next() {
            Some('"' | '\'') if is_raw => word + quoted(after, true),
            _ => word,
        };
    }
    if matches!(first, '"' | '\'') {
        return quoted(text, false);
    }
    let is_pair = PAIRS.iter().any(|pair| text.starts_with(pair));
    if is_pair { 2 } else { first.len_utf8() }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Bytes of a text in quotes; of one without an end, its first quote.
fn quoted(text: &str, is_raw: bool) -> usize {
    let quote = text.get(..1).unwrap_or_default();
    let triple = quote.repeat(3);
    let is_triple = text.starts_with(&triple);
    let end = if is_triple { triple.as_str() } else { quote };
    let mut at = end.len();
    while let Some(rest) = text.get(at..) {
        if rest.starts_with(end) {
            return at + end.len();
        }
        match rest.chars().next() {
            None => break,
            Some('\n' | '\r') if !is_triple => break,
            Some('\\') if !is_raw => {
                let escaped = rest.chars().nth(1);
                // No such text: what follows is read as parts.
                if !escaped.is_some_and(|escaped| "abfnrtv\\'\"`?xXuU0123".contains(escaped)) {
                    break;
                }
                at += 2;
            }
            Some(other) => at += other.len_utf8(),
        }
    }
    1
}
