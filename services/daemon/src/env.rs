//! The one door to the environment. Values of secrets never come through it: they come by file. The
//! only credential that may is one for a collector of spans, whose variable is OpenTelemetry's.

use keywheel_schemas::config::variables;

/// A variable's text.
///
/// # Errors
/// When it is set but is not UTF-8; `None` when it is not set or empty.
pub fn read(name: &'static str) -> Result<Option<String>, NotUtf8> {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
    let value = std::env::var(name);
    match value {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(NotUtf8 { name }),
    }
}

/// A variable's text by a name that is put together at run time; one that is no text is as if unset.
#[must_use]
pub fn lookup(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
    let value = std::env::var(name);
    value.ok().filter(|text| !text.is_empty())
}

/// A variable's text by a name that is put together at run time, with U+FFFD where its bytes are none.
#[must_use]
pub fn marked(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
    let value = std::env::var_os(name)?;
    let text = value.to_string_lossy().into_owned();
    (!text.is_empty()).then_some(text)
}

/// What is said of variables that begin like ours and are none; by their names alone.
#[must_use]
pub fn unknown() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let names: Vec<String> = names.collect();
    variables::unknown(names.iter().map(String::as_str))
}

/// A variable holds bytes that are no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable {name} is not valid UTF-8; set it again or unset it")]
pub struct NotUtf8 {
    /// The variable.
    pub name: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_not_set_is_none_and_one_that_is_set_is_read() {
        assert_eq!(read("KEYWHEEL_TEST_NOBODY_SETS_THIS"), Ok(None));
        assert!(read("PATH").is_ok_and(|path| path.is_some()));
        assert_eq!(marked("PATH"), lookup("PATH"));
        assert_eq!(marked("KEYWHEEL_TEST_NOBODY_SETS_THIS"), None);
    }
}
