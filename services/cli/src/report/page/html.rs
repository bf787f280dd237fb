//! A small writer of HTML that cannot forget to escape.

use crate::output::is_steering;

/// Characters of a name after which its next part may stand on another line of a table's cell.
const MOST_WHOLE: u32 = 12;
/// Characters after which any word may.
const MOST_UNBROKEN: u32 = 24;

/// A page that is being written.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup of this program's own.
    pub(super) fn markup(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    /// Bytes that hold no character of HTML any more.
    pub(super) fn safe(&mut self, text: &str) {
        if text.contains(['<', '>', '&']) {
            return self.text(text);
        }
        self.0.push_str(text);
    }

    /// What others wrote.
    pub(super) fn text(&mut self, text: &str) {
        text.chars().for_each(|character| self.character(character));
    }

    fn character(&mut self, character: char) {
        match character {
            '&' => self.0.push_str("&amp;"),
            '<' => self.0.push_str("&lt;"),
            '>' => self.0.push_str("&gt;"),
            '"' => self.0.push_str("&quot;"),
            '\'' => self.0.push_str("&#39;"),
            '\n' => self.0.push('\n'),
            other if is_steering(other) => self.0.push('\u{b7}'),
            other => self.0.push(other),
        }
    }

    /// A cell: long words may break where names have their parts, or else after so many characters, so that a column is
    /// as narrow as a page of paper needs it and no short word is torn apart.
    fn cell(&mut self, text: &str) {
        // An instant, or a number with its unit, stands on one line.
        match text.contains('\u{a0}') {
            true => self.markup("<td class=\"line\">"),
            false => self.open("td"),
        }
        let mut since = 0;
        for character in text.chars() {
            self.character(character);
            since = match character {
                ' ' | '\u{a0}' | '\n' | '-' => 0,
                _ => since + 1,
            };
            let is_part = matches!(character, '/' | '.' | ':' | '_' | '@' | '=' | ',');
            if since >= MOST_UNBROKEN || (is_part && since >= MOST_WHOLE) {
                self.0.push_str("<wbr>");
                since = 0;
            }
        }
        self.0.push_str("</td>\n");
    }

    /// An element without attributes.
    pub(super) fn element(&mut self, name: &'static str, text: &str) {
        self.open(name);
        self.text(text);
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push_str(">\n");
    }

    fn open(&mut self, name: &'static str) {
        self.0.push('<');
        self.0.push_str(name);
        self.0.push('>');
    }

    /// A heading and its table; one without rows says so.
    pub(super) fn section(
        &mut self,
        heading: &'static str,
        heads: &[&'static str],
        rows: impl Iterator<Item = Vec<String>>,
    ) {
        self.element("h2", heading);
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            self.element("p", "None.");
            return;
        }
        self.table(heads, rows);
    }

    /// A table; nothing when it has no rows.
    pub(super) fn table(
        &mut self,
        heads: &[&'static str],
        rows: impl Iterator<Item = Vec<String>>,
    ) {
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            return;
        }
        self.markup("<div class=\"wide\">\n<table>\n<thead><tr>");
        heads.iter().for_each(|head| self.element("th", head));
        self.markup("</tr></thead>\n<tbody>\n");
        for row in rows {
            self.markup("<tr>");
            row.iter().for_each(|cell| self.cell(cell));
            self.markup("</tr>\n");
        }
        self.markup("</tbody>\n</table>\n</div>\n");
    }

    /// The page.
    pub(super) fn done(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_never_becomes_markup() {
        let mut html = Html::default();
        html.element(
            "td",
            "<script>alert('x')</script> \"&amp;\" \u{202e}a\u{1b}[1m",
        );
        let shown = html.done();
        assert_eq!(
            shown,
            "<td>&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &quot;&amp;amp;&quot; \u{b7}a\u{b7}[1m</td>\n"
        );
    }

    #[test]
    fn what_is_said_to_be_safe_is_looked_at() {
        let mut html = Html::default();
        html.safe("a");
        html.safe("</script>");
        assert_eq!(html.done(), "a&lt;/script&gt;");
    }

    #[test]
    fn long_names_break_between_their_parts_and_short_words_nowhere() {
        let mut html = Html::default();
        let id = "c".repeat(30);
        let long = "prod/shop/orders/database/primary-password completed ";
        html.cell(&format!("{long}{id}"));
        let shown = "prod/shop/orders/<wbr>database/primary-password completed ";
        let (whole, rest) = id.split_at(24);
        assert_eq!(html.done(), format!("<td>{shown}{whole}<wbr>{rest}</td>\n"));
    }

    #[test]
    fn a_table_without_rows_says_so() {
        let mut html = Html::default();
        html.section("Hosts", &["Host"], std::iter::empty());
        assert_eq!(html.done(), "<h2>Hosts</h2>\n<p>None.</p>\n");
    }
}
