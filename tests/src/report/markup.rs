//! Builds HTML, SVG and XML of which the tags are ours and everything else is text, so that what was seen cannot become markup.

use std::fmt::Write as _;

/// Markup under construction. Every element that is opened is closed.
#[derive(Default)]
pub(super) struct Markup(String);

/// Attributes by name.
pub(super) type Attributes<'a> = &'a [(&'static str, &'a str)];

impl Markup {
    /// Nothing but what stands before the first element, which is taken as it is.
    pub(super) fn beginning(prologue: &'static str) -> Self {
        Self(prologue.to_owned())
    }

    fn tag(&mut self, tag: &'static str, attributes: Attributes<'_>, end: &'static str) {
        self.0.push('<');
        self.0.push_str(tag);
        for (name, value) in attributes {
            self.0.push(' ');
            self.0.push_str(name);
            self.0.push_str("=\"");
            self.text(value);
            self.0.push('"');
        }
        self.0.push_str(end);
    }

    /// An element around whatever `inside` adds.
    pub(super) fn within(&mut self, tag: &'static str, attributes: Attributes<'_>, inside: impl FnOnce(&mut Self)) {
        self.tag(tag, attributes, ">");
        inside(self);
        self.0.push_str("</");
        self.0.push_str(tag);
        self.0.push('>');
    }

    /// An element around a text.
    pub(super) fn element(&mut self, tag: &'static str, attributes: Attributes<'_>, text: &str) {
        self.within(tag, attributes, |inside| inside.text(text));
    }

    /// An element that has nothing in it.
    pub(super) fn empty(&mut self, tag: &'static str, attributes: Attributes<'_>) {
        self.tag(tag, attributes, "/>");
    }

    /// Text. What has a meaning in markup is written so that it has none; what cannot be shown, or would turn the line around, by
    /// its number.
    pub(super) fn text(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' => self.0.push_str("&#10;"),
                '\t' => self.0.push_str("&#9;"),
                // A string takes whatever is written to it.
                c if is_unseen(c) => write!(self.0, "\\u{{{:x}}}", u32::from(c)).unwrap_or(()),
                c => self.0.push(c),
            }
        }
    }

    /// Markup of ours, as it is.
    pub(super) fn verbatim(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    /// A line break in the source, for whoever reads that.
    pub(super) fn line(&mut self) {
        self.0.push('\n');
    }

    /// What was built.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// Controls, of which XML 1.0 takes none, marks of direction, and what is no character (Unicode §23.7).
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_was_seen_becomes_markup() {
        let mut markup = Markup::default();
        markup.element("p", &[("title", "\"><script>x</script>\n")], "<b>&amp;</b> it's");
        assert_eq!(
            markup.finish(),
            "<p title=\"&quot;&gt;&lt;script&gt;x&lt;/script&gt;&#10;\">&lt;b&gt;&amp;amp;&lt;/b&gt; it&#39;s</p>"
        );
    }

    #[test]
    fn what_cannot_be_shown_or_turns_a_line_around_is_shown_by_its_number() {
        let mut markup = Markup::default();
        markup.text("a\u{0}b\u{202e}c\u{1b}[31m\u{ffff}é");
        assert_eq!(markup.finish(), "a\\u{0}b\\u{202e}c\\u{1b}[31m\\u{ffff}é");
    }
}
