//! "Did you mean": the nearest of the words that are known.

/// ` (did you mean …?)` when one of the known words is near, or nothing.
pub(crate) fn nearest(word: &str, known: &[&str]) -> String {
    nearest_of(word, known)
        .map(|known| format!(" (did you mean `{known}`?)"))
        .unwrap_or_default()
}

/// The nearest of the known words, where one is near.
pub(crate) fn nearest_of<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let folded = word.to_lowercase();
    let near = known
        .iter()
        .map(|known| {
            (
                strsim::damerau_levenshtein(&folded, &known.to_lowercase()),
                *known,
            )
        })
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
        .min_by_key(|(distance, _)| *distance);
    near.map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_near_word_is_named_and_a_far_one_is_not() {
        assert_eq!(
            nearest("exlcude", &["length", "exclude"]),
            " (did you mean `exclude`?)"
        );
        assert_eq!(
            nearest("missed_run", &["missedRun"]),
            " (did you mean `missedRun`?)"
        );
        assert_eq!(nearest("colour", &["length", "exclude"]), "");
        assert_eq!(nearest("", &[]), "");
    }
}
