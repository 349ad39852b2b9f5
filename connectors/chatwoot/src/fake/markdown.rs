//! The little of Markdown that notes use, as HTML that is safe whatever the text says: all of it is escaped, and the
//! only tags are those written here.

/// What a line is part of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    Text,
    List,
    Quotation,
}

impl Block {
    fn of(line: &str) -> (Self, &str) {
        if let Some(item) = line.strip_prefix("- ").or_else(|| line.strip_prefix("* ")) {
            (Self::List, item)
        } else if let Some(quoted) = line.strip_prefix('>') {
            (Self::Quotation, quoted.strip_prefix(' ').unwrap_or(quoted))
        } else {
            (Self::Text, line)
        }
    }

    fn tags(self) -> (&'static str, &'static str) {
        match self {
            Self::Text => ("", ""),
            Self::List => ("<ul>", "</ul>"),
            Self::Quotation => ("<blockquote>", "</blockquote>"),
        }
    }
}

/// Renders bold, italics, code, links to http(s), mentions, list items, quotations and line breaks.
pub(super) fn to_html(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + 32);
    let mut current = Block::Text;
    let mut first = true;
    for line in text.lines() {
        // A list or a quotation ends its paragraph by itself.
        if current != Block::Text && line.trim().is_empty() {
            html.push_str(current.tags().1);
            (current, first) = (Block::Text, true);
            continue;
        }
        let (block, content) = Block::of(line);
        if block != current {
            html.push_str(current.tags().1);
            html.push_str(block.tags().0);
            (current, first) = (block, true);
        }
        if block == Block::List {
            html.push_str("<li>");
            inline(content, &mut html);
            html.push_str("</li>");
        } else {
            if !first {
                html.push_str("<br>");
            }
            inline(content, &mut html);
        }
        first = false;
    }
    html.push_str(current.tags().1);
    html
}

fn inline(mut rest: &str, html: &mut String) {
    while let Some(position) = rest.find(['*', '_', '`', '[']) {
        escape(&rest[..position], html);
        rest = &rest[position..];
        rest = span(rest, html).unwrap_or_else(|| {
            let (mark, after) = rest.split_at(1);
            html.push_str(mark);
            after
        });
    }
    escape(rest, html);
}

/// Writes the span that `text` begins with, and answers what follows it.
fn span<'a>(text: &'a str, html: &mut String) -> Option<&'a str> {
    for (mark, tag) in [("**", "strong"), ("*", "em"), ("_", "em"), ("`", "code")] {
        let Some(inside) = text.strip_prefix(mark) else { continue };
        let end = inside.find(mark)?;
        let (inside, after) = (&inside[..end], &inside[end + mark.len()..]);
        // `2 * 3 * 4` and `snake_case_name` are no emphasis.
        if inside.is_empty() || inside.starts_with(' ') || inside.ends_with(' ') {
            return None;
        }
        if mark == "_" && after.starts_with(char::is_alphanumeric) {
            return None;
        }
        html.push('<');
        html.push_str(tag);
        html.push('>');
        escape(inside, html);
        html.push_str("</");
        html.push_str(tag);
        html.push('>');
        return Some(after);
    }
    let (label, after) = text.strip_prefix('[')?.split_once("](")?;
    let (target, after) = after.split_once(')')?;
    if target.starts_with("https://") || target.starts_with("http://") {
        html.push_str("<a rel=\"noopener noreferrer\" target=\"_blank\" href=\"");
        escape(target, html);
        html.push_str("\">");
        escape(label, html);
        html.push_str("</a>");
    } else if target.starts_with("mention://") {
        html.push_str("<span class=\"mention\">");
        escape(label, html);
        html.push_str("</span>");
    } else {
        return None;
    }
    Some(after)
}

fn escape(text: &str, html: &mut String) {
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::to_html;

    #[test]
    fn emphasis_links_mentions_lists_and_breaks_are_rendered() {
        assert_eq!(
            to_html("**Approved** by _Cleo_\nsee `x`"),
            "<strong>Approved</strong> by <em>Cleo</em><br>see <code>x</code>"
        );
        assert_eq!(
            to_html("[open](https://a.test/?b=1&c=2)"),
            "<a rel=\"noopener noreferrer\" target=\"_blank\" href=\"https://a.test/?b=1&amp;c=2\">open</a>"
        );
        assert_eq!(to_html("[@Jane](mention://user/8/Jane) hi"), "<span class=\"mention\">@Jane</span> hi");
        assert_eq!(to_html("a\n- b\n- c\nd"), "a<ul><li>b</li><li>c</li></ul>d");
        assert_eq!(to_html("- b\n\nd\n\ne"), "<ul><li>b</li></ul>d<br><br>e");
        assert_eq!(to_html("a\n> b *c*\n>\n> d\n\ne"), "a<blockquote>b <em>c</em><br><br>d</blockquote>e");
    }

    #[test]
    fn what_only_looks_like_markdown_stays_text() {
        assert_eq!(to_html("2 * 3 * 4"), "2 * 3 * 4");
        assert_eq!(to_html("snake_case_name"), "snake_case_name");
        assert_eq!(to_html("**open [and"), "**open [and");
    }

    #[test]
    fn no_markup_gets_through() {
        for text in [
            "<script>alert(1)</script>",
            "[x](javascript:alert(1))",
            "[x](https://a\" onmouseover=\"alert(1))",
            "**<img src=x onerror=alert(1)>**",
            "[<b>](mention://\"><script>)",
        ] {
            let html = to_html(text);
            assert!(!html.contains("<script") && !html.contains("<img") && !html.contains("<b>"), "{html}");
            assert!(!html.contains("href=\"javascript") && !html.contains("\" onmouseover"), "{html}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_tag_in_the_output_is_one_of_ours(text in "[-<>&\"'*_`\\[\\]() \na-c:/]{0,60}") {
            let html = to_html(&text);
            for tag in html.split('<').skip(1) {
                let name: String = tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphabetic).collect();
                proptest::prop_assert!(["br", "ul", "li", "strong", "em", "code", "a", "span", "blockquote"].contains(&name.as_str()), "{html}");
            }
        }
    }
}
