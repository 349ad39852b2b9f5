//! What a form sent (`application/x-www-form-urlencoded`, WHATWG URL, section 5), and checking it.

use axum::{
    extract::{FromRequest, Request},
    http::{StatusCode, header},
};
use percent_encoding::percent_decode;
use shell_ui::{FieldErrors, Ui};

use crate::http::{Problem, extract::body};

/// The fields of a form: 415 for another content type, 413 where it is too large, 400 where it isn't UTF-8.
#[derive(Debug)]
pub(super) struct PageForm(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for PageForm {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let content_type = request
            .headers()
            .get(header::CONTENT_TYPE)
            .map(|value| value.to_str().unwrap_or_default().to_owned());
        // A form without fields may be sent without a type.
        let essence = content_type.as_deref().map(|value| value.split(';').next().unwrap_or_default().trim());
        if essence.is_some_and(|essence| !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "The body must be a form",
            ));
        }
        let body = body(request).await?;
        if essence.is_none() && !body.is_empty() {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "The body must be a form",
            ));
        }
        Self::parse(&body)
    }
}

impl PageForm {
    fn parse(body: &[u8]) -> Result<Self, Problem> {
        let not_text = || Problem::new(StatusCode::BAD_REQUEST, "not_a_form", "The form is not UTF-8");
        // The usual parser replaces what isn't UTF-8; that would store what nobody wrote.
        let text = |bytes: &[u8]| {
            let spaced: Vec<u8> = bytes.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
            percent_decode(&spaced).decode_utf8().map(std::borrow::Cow::into_owned).map_err(|_| not_text())
        };
        let mut fields = Vec::new();
        for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &[][..]),
            };
            fields.push((text(name)?, text(value)?));
        }
        Ok(Self(fields))
    }

    /// What was sent in a field, with the line breaks of our platform; empty where it wasn't sent.
    pub fn text(&self, name: &str) -> String {
        self.raw(name).replace("\r\n", "\n").replace('\r', "\n")
    }

    /// Whether a checkbox is ticked.
    pub fn is_checked(&self, name: &str) -> bool {
        self.raw(name) == "true"
    }

    /// The version that the page showed, which the form sends back.
    ///
    /// # Errors
    /// 422 where it is none.
    pub fn version(&self) -> Result<i64, Problem> {
        self.raw("version").parse().map_err(|_| {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "The form is not complete")
        })
    }

    fn raw(&self, name: &str) -> &str {
        self.0.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value)
    }
}

/// What a text has to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// Whether it may be left empty.
    pub required: bool,
    /// Whether it may have more than one line.
    pub lines: bool,
    /// The most characters.
    pub limit: usize,
}

/// Adds what is wrong with a text, if anything is.
pub(super) fn check(ui: &Ui, errors: FieldErrors, field: &str, text: &str, rule: Rule) -> FieldErrors {
    let is_harmless = |char: char| !char.is_control() || (rule.lines && matches!(char, '\n' | '\t'));
    if rule.required && text.trim().is_empty() {
        errors.with(field, ui.t("error-required"))
    } else if !text.chars().all(is_harmless) {
        errors.with(field, ui.t("error-characters"))
    } else if text.trim().chars().count() > rule.limit {
        errors.with(field, ui.too_long(u64::try_from(rule.limit).unwrap_or(u64::MAX)))
    } else {
        errors
    }
}

/// The address of a list with these parameters; those without a value are left out.
pub(super) fn with_query(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_as_browsers_send_it() {
        let form =
            PageForm::parse(b"reason=two%0D%0Alines+%26+%C3%A9&consultation_requested=true&empty=&bare")
                .unwrap();
        assert_eq!(form.text("reason"), "two\nlines & é");
        assert!(form.is_checked("consultation_requested"));
        assert!(!form.is_checked("reason"));
        assert_eq!(form.text("empty"), "");
        assert_eq!(form.text("missing"), "");
        assert!(form.version().is_err());
    }

    #[test]
    fn what_is_not_utf8_is_refused() {
        for body in [&b"reason=%FF"[..], b"reason=\xff", b"%C3=x", b"reason=%ED%A0%80"] {
            assert_eq!(PageForm::parse(body).unwrap_err().status().as_u16(), 400);
        }
    }

    #[test]
    fn texts_are_checked_by_their_rule() {
        let ui = Ui::new("");
        let wrong =
            |text: &str, rule| check(&ui, FieldErrors::default(), "f", text, rule).of("f").map(str::to_owned);
        let line = Rule { required: true, lines: false, limit: 3 };
        let prose = Rule { required: false, lines: true, limit: 3 };
        assert_eq!(wrong("äöü", line), None);
        assert_eq!(wrong("", prose), None);
        assert_eq!(wrong("a\nb", prose), None);
        assert_eq!(wrong(" \n ", line), Some(ui.t("error-required")));
        assert_eq!(wrong("a\nb", line), Some(ui.t("error-characters")));
        assert_eq!(wrong("a\0", prose), Some(ui.t("error-characters")));
        assert_eq!(wrong("abcd", prose), Some(ui.too_long(3)));
    }

    #[test]
    fn an_address_carries_only_what_is_set() {
        assert_eq!(with_query("/a", &[("x", None), ("y", Some(""))]), "/a");
        assert_eq!(with_query("/a", &[("x", Some("1 2")), ("y", None), ("z", Some("&"))]), "/a?x=1+2&z=%26");
    }
}
