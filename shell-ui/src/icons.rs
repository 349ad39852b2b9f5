//! Icons, drawn for this shell: 24 by 24, lines in the colour of the text around them, never read out.

use askama::filters::Safe;

macro_rules! icons {
    ($($name:literal => $drawing:literal),+ $(,)?) => {
        /// The names of all icons.
        pub const ICON_NAMES: &[&str] = &[$($name),+];

        /// The icon with that name, as markup to stand in a page; an unknown name gives a plain square.
        pub fn icon(name: &str) -> Safe<&'static str> {
            Safe(match name {
                $($name => concat!(
                    r#"<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">"#, $drawing, "</svg>"
                ),)+
                _ => r#"<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false"><rect x="4.5" y="4.5" width="15" height="15" rx="3"/></svg>"#,
            })
        }
    };
}

/// The icon as a file of its own, in a grey that can be told from light and dark grounds.
pub(crate) fn icon_file(name: &str) -> String {
    let own = r#"<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">"#;
    let alone = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="#64748b" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round">"##;
    icon(name).0.replacen(own, alone, 1)
}

icons! {
    "approvals" => r#"<path d="M8 3.8h8a1.6 1.6 0 0 1 1.6 1.6v15l-2.8-1.7-2.8 1.7-2.8-1.7-2.8 1.7v-15A1.6 1.6 0 0 1 8 3.8Z"/><path d="m9.2 10.6 2 2 3.7-4"/>"#,
    "arrow-left" => r#"<path d="M19 12H5.5M11 6l-6 6 6 6"/>"#,
    "arrow-right" => r#"<path d="M5 12h13.5M13 6l6 6-6 6"/>"#,
    "audit" => r#"<path d="M12 7.5V12l3 2"/><path d="M4.2 9.4A8.2 8.2 0 1 1 4 13.5"/><path d="M3.4 5.2 4 9.6l4.3-.8"/>"#,
    "board" => r#"<rect x="4" y="4.5" width="16" height="15" rx="2.2"/><path d="M9.3 4.5v15M14.7 4.5v15M6 8h1.2M11.4 8h1.2M11.4 11h1.2M16.8 8H18"/>"#,
    "book" => r#"<path d="M5 5.6A1.6 1.6 0 0 1 6.6 4H19v13.2H6.6A1.6 1.6 0 0 0 5 18.8Z"/><path d="M5 18.8a1.6 1.6 0 0 0 1.6 1.6H19v-3.2M9 8h6"/>"#,
    "building" => r#"<path d="M5 20.2V5.4a1.4 1.4 0 0 1 1.4-1.4h6.7a1.4 1.4 0 0 1 1.4 1.4v14.8M14.5 10h3.1a1.4 1.4 0 0 1 1.4 1.4v8.8M3 20.2h18M8.3 8h3M8.3 11.7h3M8.3 15.4h3"/>"#,
    "calendar" => r#"<rect x="4" y="5.2" width="16" height="15" rx="2.2"/><path d="M4 10h16M8.4 3v4M15.6 3v4"/>"#,
    "chart" => r#"<path d="M4.5 4.5v15h15M8.5 16v-4M12.5 16V8M16.5 16v-6"/>"#,
    "check" => r#"<path d="m5 12.6 4.6 4.6L19.2 7"/>"#,
    "chevron" => r#"<path d="m8 10 4 4 4-4"/>"#,
    "clock" => r#"<circle cx="12" cy="12" r="8.4"/><path d="M12 7.3V12l3.2 2"/>"#,
    "consultations" => r#"<rect x="3" y="6" width="12.6" height="12" rx="2.4"/><path d="m15.6 10.6 5.4-3v8.8l-5.4-3"/>"#,
    "conversations" => r#"<path d="M20.2 11.4a7.4 7.4 0 0 1-7.6 7.2 8.3 8.3 0 0 1-3.3-.7L4 19.6l1.5-4.2a6.8 6.8 0 0 1-.8-4 7.5 7.5 0 0 1 7.8-6.6 7.4 7.4 0 0 1 7.7 6.6Z"/><path d="M9.2 10.2h6.6M9.2 13.3h4.2"/>"#,
    "cross" => r#"<path d="m6.5 6.5 11 11M17.5 6.5l-11 11"/>"#,
    "endpoints" => r#"<circle cx="6.2" cy="12" r="2.7"/><path d="M8.9 12h3.6M12.5 12c0-4 2-6.5 6.5-6.5M12.5 12c0 4 2 6.5 6.5 6.5M12.5 12H19M16.6 3.2 19 5.5l-2.4 2.3M16.6 9.7 19 12l-2.4 2.3M16.6 16.2l2.4 2.3-2.4 2.3"/>"#,
    "external" => r#"<path d="M13.5 4.5h6v6M19.2 4.8 11 13M18 14.5v3.6a1.4 1.4 0 0 1-1.4 1.4H5.9a1.4 1.4 0 0 1-1.4-1.4V7.4A1.4 1.4 0 0 1 5.9 6h3.6"/>"#,
    "flag" => r#"<path d="M6 21V4.5M6 5h11.5l-2.3 4 2.3 4H6"/>"#,
    "folder" => r#"<path d="M4 7.4A1.9 1.9 0 0 1 5.9 5.5h3.6l2 2.4h6.6A1.9 1.9 0 0 1 20 9.8v7.3a1.9 1.9 0 0 1-1.9 1.9H5.9A1.9 1.9 0 0 1 4 17.1Z"/>"#,
    "globe" => r#"<circle cx="12" cy="12" r="8.4"/><path d="M3.6 12h16.8M12 3.6c2.3 2.2 3.4 5 3.4 8.4s-1.1 6.2-3.4 8.4c-2.3-2.2-3.4-5-3.4-8.4S9.7 5.8 12 3.6Z"/>"#,
    "hourglass" => r#"<path d="M7 3.8h10M7 20.2h10M8 3.8v3.4c0 2.2 4 3.3 4 4.8s-4 2.6-4 4.8v3.4M16 3.8v3.4c0 2.2-4 3.3-4 4.8s4 2.6 4 4.8v3.4"/>"#,
    "inbox" => r#"<path d="M4 13.5 6.3 6a1.8 1.8 0 0 1 1.7-1.3h8A1.8 1.8 0 0 1 17.7 6L20 13.5v4a1.8 1.8 0 0 1-1.8 1.8H5.8A1.8 1.8 0 0 1 4 17.5Z"/><path d="M4 13.5h4.4l1.4 2.5h4.4l1.4-2.5H20"/>"#,
    "key" => r#"<circle cx="8" cy="15.5" r="4"/><path d="m11 12.7 8-8M16 7.7l2.6 2.6M13.6 10.1l1.5 1.5"/>"#,
    "mail" => r#"<rect x="3.5" y="5.5" width="17" height="13" rx="2.2"/><path d="m4.5 7.5 7.5 5.6 7.5-5.6"/>"#,
    "megaphone" => r#"<path d="M4 10.2v3.6h3l8.5 4.2V6L7 10.2ZM18.5 9.3a4 4 0 0 1 0 5.4M7.4 13.8l1.4 5.2h2.4l-1.3-4"/>"#,
    "menu" => r#"<path d="M4.5 7h15M4.5 12h15M4.5 17h15"/>"#,
    "modules" => r#"<rect x="4.2" y="4.2" width="6.4" height="6.4" rx="1.6"/><rect x="13.4" y="4.2" width="6.4" height="6.4" rx="1.6"/><rect x="4.2" y="13.4" width="6.4" height="6.4" rx="1.6"/><path d="M16.6 13.6v6M13.6 16.6h6"/>"#,
    "overview" => r#"<path d="M4 11 12 4.3 20 11"/><path d="M6 9.6v8.8A1.4 1.4 0 0 0 7.4 19.8h9.2a1.4 1.4 0 0 0 1.4-1.4V9.6M10 19.6v-5.2h4v5.2"/>"#,
    "people" => r#"<circle cx="9" cy="8.5" r="3.3"/><path d="M3 19.3c0-3.3 2.7-5.4 6-5.4s6 2.1 6 5.4M15.5 5.5a3.2 3.2 0 0 1 0 6M17.3 14.4c2.2.7 3.7 2.5 3.7 4.9"/>"#,
    "person" => r#"<circle cx="12" cy="8.3" r="3.6"/><path d="M5 19.8c0-3.6 3.1-5.8 7-5.8s7 2.2 7 5.8"/>"#,
    "plus" => r#"<path d="M12 5v14M5 12h14"/>"#,
    "settings" => r#"<path d="M4 7h8.5M17.5 7H20M4 17h2.5M11.5 17H20"/><circle cx="15" cy="7" r="2.5"/><circle cx="9" cy="17" r="2.5"/>"#,
    "shield" => r#"<path d="M12 3.6 5 6.2v5.3c0 4.2 2.8 7.2 7 8.9 4.2-1.7 7-4.7 7-8.9V6.2Z"/><path d="m9 12 2.2 2.2 4-4.4"/>"#,
    "sign-out" => r#"<path d="M10 4.5H6.4A1.4 1.4 0 0 0 5 5.9v12.2a1.4 1.4 0 0 0 1.4 1.4H10M14.5 8l4 4-4 4M18 12H9.5"/>"#,
    "team-chat" => r#"<path d="M9.6 4 7.6 20M16.4 4l-2 16M4.5 9h16M3.5 15h16"/>"#,
    "video" => r#"<rect x="3" y="6" width="12.6" height="12" rx="2.4"/><path d="m15.6 10.6 5.4-3v8.8l-5.4-3"/>"#,
    "warning" => r#"<path d="M12 4.3 21 19.5H3ZM12 10v4.3M12 16.9v.1"/>"#,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_icon_is_a_square() {
        assert!(icon("no such icon").0.contains("<rect"));
    }

    #[test]
    fn an_icon_alone_is_a_picture_that_needs_no_page() {
        for name in ICON_NAMES {
            let file = icon_file(name);
            assert!(
                file.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"") && file.ends_with("</svg>"),
                "{name}"
            );
            assert!(!file.contains("class="), "{name}");
        }
    }

    #[test]
    fn icons_need_no_inline_style() {
        for name in ICON_NAMES {
            let drawing = icon(name).0;
            assert!(!drawing.contains("style="), "{name}");
            assert!(drawing.contains("aria-hidden=\"true\""), "{name}");
        }
    }
}
