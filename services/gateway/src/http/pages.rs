//! Lists in pages: a bounded number of rows, and a link to the next ones.

use axum::Json;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use keywheel_schemas::api::MAX_PAGE;
use serde::{Deserialize, Serialize};

use super::Failure;

/// Which page.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// At most so many.
    pub(super) limit: Option<usize>,
    /// Key of the last row before it.
    pub(super) after: Option<String>,
}

/// The page a request asks for, as it is extracted.
pub(super) type Paged = Result<Query<PageQuery>, QueryRejection>;

/// How a list is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// By key: a page begins after the place where a key is or was.
    ByKey,
    /// Otherwise: a page begins after a row that is still there.
    Other,
}

/// One page of rows, with a `Link` to the next. `path` may have a query of its own.
pub(super) fn answer<T: Serialize>(
    path: &str,
    rows: Vec<T>,
    by: (Order, impl Fn(&T) -> String),
    query: &PageQuery,
) -> Result<Response, Failure> {
    answer_of(path, rows, by, (query, Some))
}

/// The same of rows that are made for their page alone; one that went meanwhile is left out.
pub(super) fn answer_of<T, V: Serialize>(
    path: &str,
    rows: Vec<T>,
    (order, key): (Order, impl Fn(&T) -> String),
    (query, made): (&PageQuery, impl Fn(T) -> Option<V>),
) -> Result<Response, Failure> {
    let limit = query.limit.unwrap_or(MAX_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        let text = format!("`limit` is {limit}; give a number from 1 to {MAX_PAGE}");
        return Err(Failure::invalid(text));
    }
    let begin = match &query.after {
        None => 0,
        Some(after) => begin(&rows, after, order, &key)?,
    };
    let left = rows.len().saturating_sub(begin);
    let page: Vec<T> = rows.into_iter().skip(begin).take(limit).collect();
    let last = page.last().filter(|_| left > limit).map(&key);
    let shown: Vec<V> = page.into_iter().filter_map(made).collect();
    let mut response = Json(shown).into_response();
    if let Some(link) = last.and_then(|last| link(path, limit, &last)) {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

fn begin<T>(
    rows: &[T],
    after: &str,
    order: Order,
    key: &impl Fn(&T) -> String,
) -> Result<usize, Failure> {
    if order == Order::ByKey {
        return Ok(rows.partition_point(|row| key(row).as_str() <= after));
    }
    // Should two rows have one key, the later one: a page may leave a row out, and never begins again.
    let found = rows.iter().rposition(|row| key(row) == after);
    found.map(|place| place + 1).ok_or_else(|| {
        let after: String = after.chars().take(80).collect();
        Failure::invalid(format!(
            "`after={after}` names no row that is there now; begin again without it"
        ))
    })
}

fn link(path: &str, limit: usize, last: &str) -> Option<HeaderValue> {
    let joint = if path.contains('?') { '&' } else { '?' };
    let link = format!(
        "<{path}{joint}limit={limit}&after={}>; rel=\"next\"",
        escape(last)
    );
    HeaderValue::from_str(&link).ok()
}

/// A part of a query, percent-encoded.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => escaped.push(char::from(byte)),
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(order: Order, limit: Option<usize>, after: Option<&str>) -> (Vec<&'static str>, bool) {
        let rows = vec!["a/1", "b", "c", "d"];
        let query = PageQuery {
            limit,
            after: after.map(str::to_owned),
        };
        let key = |row: &&str| (*row).to_owned();
        let response = answer("/v1/rows", rows.clone(), (order, key), &query).unwrap();
        let has_next = response.headers().contains_key(header::LINK);
        let begin = match after {
            None => 0,
            Some(after) => begin(&rows, after, order, &key).unwrap(),
        };
        let limit = limit.unwrap_or(MAX_PAGE);
        (rows.into_iter().skip(begin).take(limit).collect(), has_next)
    }

    #[test]
    fn pages_follow_each_other_and_the_last_has_no_link() {
        assert_eq!(
            shown(Order::ByKey, None, None),
            (vec!["a/1", "b", "c", "d"], false)
        );
        assert_eq!(shown(Order::ByKey, Some(2), None), (vec!["a/1", "b"], true));
        assert_eq!(
            shown(Order::Other, Some(2), Some("b")),
            (vec!["c", "d"], false)
        );
        assert!(!shown(Order::ByKey, Some(4), None).1);
    }

    #[test]
    fn a_row_that_went_moves_no_page_of_a_list_by_key_and_is_named_in_another() {
        assert_eq!(shown(Order::ByKey, Some(9), Some("bb")).0, ["c", "d"]);
        let rows = ["a"];
        let key = |row: &&str| (*row).to_owned();
        let failure = begin(&rows, "gone", Order::Other, &key).unwrap_err();
        assert!(format!("{failure:?}").contains("`after=gone` names no row"));
    }

    #[test]
    fn rows_are_made_for_their_page_alone_and_one_that_went_is_left_out() {
        let query = PageQuery {
            limit: Some(2),
            after: Some("a/1".to_owned()),
        };
        let key = |row: &&str| (*row).to_owned();
        let asked = std::cell::RefCell::new(Vec::new());
        let made = |row: &'static str| {
            asked.borrow_mut().push(row);
            (row != "c").then_some(row)
        };
        let rows = vec!["a/1", "b", "c", "d"];
        let response = answer_of("/v1/rows", rows, (Order::Other, key), (&query, made)).unwrap();
        assert_eq!(asked.into_inner(), ["b", "c"]);
        let next = response.headers().get(header::LINK).unwrap();
        assert!(next.to_str().unwrap().contains("after=c"), "{next:?}");
    }

    #[test]
    fn a_limit_outside_its_bounds_is_refused() {
        for limit in [0, MAX_PAGE + 1] {
            let query = PageQuery {
                limit: Some(limit),
                after: None,
            };
            let key = |row: &&str| (*row).to_owned();
            let refused = answer("/v1/rows", vec!["a"], (Order::ByKey, key), &query);
            assert!(format!("{:?}", refused.unwrap_err()).contains("from 1 to 1000"));
        }
    }

    #[test]
    fn a_key_with_a_slash_or_a_blank_is_escaped_in_the_link() {
        let link = link("/v1/consumers?secret=a", 2, "a/b c").unwrap();
        assert_eq!(
            link.to_str().unwrap(),
            "</v1/consumers?secret=a&limit=2&after=a%2Fb%20c>; rel=\"next\""
        );
    }
}
