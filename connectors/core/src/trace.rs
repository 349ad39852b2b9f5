//! W3C Trace Context (Level 2, <https://www.w3.org/TR/trace-context/>): the trace that a piece of work belongs to comes in
//! by `traceparent`, and goes on to whatever is called.

use std::{
    num::{NonZeroU64, NonZeroU128},
    sync::Arc,
};

use http::HeaderMap;

use crate::{IdGenerator, SharedIds};

/// `traceparent`.
pub const TRACEPARENT: &str = "traceparent";
/// `tracestate`.
pub const TRACESTATE: &str = "tracestate";
/// `00-` trace id `-` parent id `-` flags.
const TRACEPARENT_LENGTH: usize = 55;
/// The flags that are passed on: sampled, and random trace id. All others are to be cleared (section 3.2.2.5).
const KNOWN_FLAGS: u8 = 0b11;
/// A longer `tracestate` need not be passed on (section 3.3.1.5).
const MOST_STATE: usize = 512;
const MOST_STATE_MEMBERS: usize = 32;

tokio::task_local! {
    static CURRENT: (TraceContext, SharedIds);
}

/// Where in which trace a piece of work is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: NonZeroU128,
    span_id: NonZeroU64,
    flags: u8,
    state: Option<Arc<str>>,
}

impl TraceContext {
    /// A new trace. It isn't sampled: nothing here keeps spans, and whoever is called needn't either.
    pub fn begin(ids: &dyn IdGenerator) -> Self {
        let mut random = [0; 16];
        ids.fill(&mut random);
        let trace_id = NonZeroU128::new(u128::from_be_bytes(random)).unwrap_or(NonZeroU128::MIN);
        Self { trace_id, span_id: new_span_id(ids), flags: 0, state: None }
    }

    /// The context of whoever sent a request. None where it sent none, or one that breaks the rules: then a new trace is to
    /// begin (section 4.3).
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
        // Several fields are one list; one that can't be read spoils it.
        let states: Option<Vec<&str>> =
            headers.get_all(TRACESTATE).iter().map(|value| value.to_str().ok()).collect();
        let state = states.filter(|states| !states.is_empty()).map(|states| states.join(","));
        Self::parse(parent.to_str().ok()?, state.as_deref())
    }

    /// The context that these two say. A `tracestate` that breaks the rules is left out.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let bytes = traceparent.as_bytes();
        // A later version may say more behind these (section 3.2.4).
        let (version, rest) = (traceparent.get(..2)?, bytes.get(TRACEPARENT_LENGTH..)?);
        let known_length = rest.is_empty() || (version != "00" && rest[0] == b'-');
        let separated = [2, 35, 52].iter().all(|at| bytes[*at] == b'-');
        if !known_length || !separated || !is_hex(version) || version == "ff" {
            return None;
        }
        let field = |from: usize, to: usize| traceparent.get(from..to).filter(|text| is_hex(text));
        let trace_id = u128::from_str_radix(field(3, 35)?, 16).ok()?;
        let span_id = u64::from_str_radix(field(36, 52)?, 16).ok()?;
        let flags = u8::from_str_radix(field(53, 55)?, 16).ok()?;
        Some(Self {
            trace_id: NonZeroU128::new(trace_id)?,
            span_id: NonZeroU64::new(span_id)?,
            flags: flags & KNOWN_FLAGS,
            state: tracestate.filter(|state| is_state(state)).map(Arc::from),
        })
    }

    /// The next piece of work in the same trace.
    #[must_use]
    pub fn child(&self, ids: &dyn IdGenerator) -> Self {
        Self { span_id: new_span_id(ids), ..self.clone() }
    }

    /// The trace's id: 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// The id of this piece of work, which is the parent of what follows from it: 16 hexadecimal digits.
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span_id)
    }

    /// The value of `traceparent` for what follows from this piece of work.
    pub fn traceparent(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }

    /// The value of `tracestate`, as it came.
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Does `work` in this context; `ids` makes the ids of what it calls.
    pub async fn scope<F: Future>(self, ids: SharedIds, work: F) -> F::Output {
        CURRENT.scope((self, ids), work).await
    }

    /// The context of the work that is being done.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|(context, _)| context.clone()).ok()
    }

    /// The context of a call that the work is about to make: its parent id is new.
    pub(crate) fn of_call() -> Option<Self> {
        CURRENT.try_with(|(context, ids)| context.child(&**ids)).ok()
    }
}

fn new_span_id(ids: &dyn IdGenerator) -> NonZeroU64 {
    let mut random = [0; 8];
    ids.fill(&mut random);
    // Zero means none.
    NonZeroU64::new(u64::from_be_bytes(random)).unwrap_or(NonZeroU64::MIN)
}

/// Lower-case hexadecimal digits: no others are allowed.
fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a list of `key=value` keeps the rules of section 3.3.1.
fn is_state(text: &str) -> bool {
    // First, so that nobody has us compare ten thousand keys.
    if text.len() > MOST_STATE {
        return false;
    }
    let mut keys = Vec::new();
    for member in text.split(',').map(|member| member.trim_matches([' ', '\t'])) {
        if member.is_empty() {
            continue;
        }
        let Some((key, value)) = member.split_once('=') else { return false };
        if !is_state_key(key) || !is_state_value(value) || keys.contains(&key) {
            return false;
        }
        keys.push(key);
    }
    (1..=MOST_STATE_MEMBERS).contains(&keys.len())
}

fn is_state_key(key: &str) -> bool {
    let begins = key.starts_with(|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit());
    begins
        && key.len() <= 256
        && key
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte))
}

fn is_state_value(value: &str) -> bool {
    (1..=256).contains(&value.len())
        && value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=')
        && !value.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::RandomIds;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_parent_is_read_and_passed_on_with_a_new_id() {
        let parent = TraceContext::parse(PARENT, Some("congo=t61rcWkgMzE")).unwrap();
        assert_eq!(parent.traceparent(), PARENT);
        let child = parent.child(&RandomIds);
        assert_eq!(child.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_ne!(child.span_id(), parent.span_id());
        assert!(child.traceparent().ends_with("-01"), "whether it is sampled stays");
        assert_eq!(child.tracestate(), Some("congo=t61rcWkgMzE"));
        let begun = TraceContext::begin(&RandomIds);
        assert_eq!(TraceContext::parse(&begun.traceparent(), None), Some(begun));
    }

    #[test]
    fn a_parent_that_breaks_the_rules_is_none() {
        for broken in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902bg-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0-4bf92f3577b34da6a3ce929d0e0e47360-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            "ä0-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473ä-00f067aa0ba902b-01",
        ] {
            assert_eq!(TraceContext::parse(broken, None), None, "{broken}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_ours_and_unknown_flags_are_cleared() {
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-what-the-future-will-be-like";
        assert_eq!(
            TraceContext::parse(later, None).unwrap().traceparent(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03"
        );
    }

    #[test]
    fn a_state_is_passed_on_as_it_came_or_not_at_all() {
        let state =
            |text: &str| TraceContext::parse(PARENT, Some(text)).unwrap().tracestate().map(str::to_owned);
        let many = |count: usize| (0..count).map(|index| format!("k{index}=v")).collect::<Vec<_>>().join(",");
        for kept in
            ["a=b", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "a=b, ,c=d", "0tenant@system=a b", &many(32)]
        {
            assert_eq!(state(kept).as_deref(), Some(kept));
        }
        let long = format!("a={},b={},c=d", "x".repeat(256), "y".repeat(256));
        for dropped in [
            "",
            ",",
            "a",
            "a=",
            "=b",
            "A=b",
            "_a=b",
            "a=b=c",
            "a=\u{e9}",
            "a b=c",
            "a=b,a=c",
            &many(33),
            &long,
        ] {
            assert_eq!(state(dropped), None, "{dropped}");
        }
    }

    #[test]
    fn a_state_that_is_too_long_is_not_read() {
        // Comparing each of so many keys with those before it would take minutes.
        let long = (0..200_000).map(|index| format!("k{index}=v")).collect::<Vec<_>>().join(",");
        let begun = std::time::Instant::now();
        assert_eq!(TraceContext::parse(PARENT, Some(&long)).unwrap().tracestate(), None);
        assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{:?}", begun.elapsed());
    }

    #[test]
    fn several_parents_are_none_and_several_states_are_one() {
        let mut headers = HeaderMap::new();
        assert_eq!(TraceContext::from_headers(&headers), None);
        headers.append(TRACEPARENT, HeaderValue::from_static(PARENT));
        headers.append(TRACESTATE, HeaderValue::from_static("a=b"));
        assert_eq!(TraceContext::from_headers(&headers).unwrap().tracestate(), Some("a=b"));
        headers.append(TRACESTATE, HeaderValue::from_static("c=d"));
        assert_eq!(TraceContext::from_headers(&headers).unwrap().tracestate(), Some("a=b,c=d"));
        headers.append(TRACEPARENT, HeaderValue::from_static(PARENT));
        assert_eq!(TraceContext::from_headers(&headers), None);
    }

    #[tokio::test]
    async fn each_call_of_a_piece_of_work_has_an_id_of_its_own() {
        assert_eq!(TraceContext::of_call(), None);
        let work = TraceContext::begin(&RandomIds);
        let expected = work.clone();
        work.scope(Arc::new(RandomIds), async {
            assert_eq!(TraceContext::current().as_ref(), Some(&expected));
            let (first, second) = (TraceContext::of_call().unwrap(), TraceContext::of_call().unwrap());
            assert_eq!(first.trace_id(), expected.trace_id());
            assert!(first != second && first != expected && second != expected);
        })
        .await;
        assert_eq!(TraceContext::current(), None);
    }
}
