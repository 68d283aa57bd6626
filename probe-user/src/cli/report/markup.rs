//! HTML that is written so that a text cannot become a part of it.

use std::fmt::Display;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hostprobe::escape::escaped;
use ring::digest::{SHA256, digest};

#[derive(Debug, Default)]
pub(super) struct Markup(String);

impl Markup {
    /// Adds markup of this program.
    pub fn raw(&mut self, markup: &str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Adds a text of anybody's, in an element or in the quotes of an attribute. Characters that hide or turn others are shown by
    /// their numbers.
    pub fn text(&mut self, text: &str) -> &mut Self {
        for char in escaped(text).chars() {
            match char {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                char => self.0.push(char),
            }
        }
        self
    }

    /// An element that holds a text.
    pub fn element(&mut self, name: &str, text: &str) -> &mut Self {
        self.raw("<").raw(name).raw(">").text(text).raw("</").raw(name).raw(">")
    }

    /// Begins a table that can be moved sideways with keys where it is wider than the screen.
    pub fn table(&mut self, id: &str, caption: &str, head: &[&str]) {
        self.raw("\n<div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"")
            .text(id)
            .raw("\"><table>");
        if !caption.is_empty() {
            self.element("caption", caption);
        }
        self.raw("<thead><tr>");
        for name in head {
            // A column of drawings needs no name.
            if name.is_empty() {
                self.raw("<td></td>");
            } else {
                self.raw("<th scope=\"col\">").text(name).raw("</th>");
            }
        }
        self.raw("</tr></thead>\n<tbody>\n");
    }

    pub fn end_table(&mut self) {
        self.raw("</tbody></table></div>\n");
    }

    /// The first cell of a row, which the others are about.
    pub fn row_head(&mut self, text: &str) -> &mut Self {
        self.raw("<th scope=\"row\">").text(text).raw("</th>")
    }

    /// A cell with a figure.
    pub fn cell(&mut self, figure: &dyn Display) -> &mut Self {
        self.element("td", &figure.to_string())
    }

    /// A cell with words.
    pub fn word(&mut self, text: &str) -> &mut Self {
        self.raw("<td class=\"word\">").text(text).raw("</td>")
    }

    pub fn done(self) -> String {
        self.0
    }
}

/// What a policy of a page calls a style by (Content Security Policy 3, section 2.3.1).
pub(super) fn digest_of(text: &str) -> String {
    STANDARD.encode(digest(&SHA256, text.as_bytes()))
}
