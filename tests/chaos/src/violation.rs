//! The promises that can be broken.

use std::{collections::BTreeSet, fmt};

use uuid::Uuid;

use crate::verdict::{Name, Numbers};

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// No 200, however often it was sent.
    NeverAnswered(Name),
    /// Several 200s with different ids.
    SeveralIds(Name, BTreeSet<Uuid>),
    /// Several 200s say that it was new.
    NewTwice(Name),
    /// Two events got the same id: one of them is lost.
    SharedId(Name, Name),
    /// A 200, and no effect.
    Lost(Name, Uuid),
    /// More than one effect.
    Doubled(Name, Uuid, usize),
    /// An effect before that of an earlier event.
    Disordered {
        /// What had its effect too early.
        event: Name,
        /// What was sent before it and had its effect after it.
        earlier: Name,
    },
    /// An effect in another transaction than the one that has marked the event as done.
    Apart(Name, Uuid),
    /// The timeline doesn't tell of it, or tells that it has run more than once.
    Timeline(Name, Uuid, usize),
    /// An effect of what nobody has sent.
    Stranger(Uuid),
    /// The mirror doesn't show the last message.
    Mirror {
        /// The conversation's number.
        conversation: i64,
        /// What was sent last.
        sent: String,
        /// What is shown.
        shown: Option<String>,
    },
    /// An event was given up.
    Dead(String),
    /// A job was given up.
    DeadJob(String),
    /// Not everything was done in time.
    Waiting(i64),
    /// There are more or fewer keys than events.
    Keys {
        /// Keys that are there.
        found: i64,
        /// Events that were sent.
        sent: usize,
    },
    /// The stream's numbers have a gap, or don't end with the newest.
    Numbers(Numbers),
    /// Who listened has missed these.
    NotHeard(Vec<i64>),
    /// Who listened has heard these twice, too late, or though they are not for them.
    HeardWrongly(Vec<i64>),
    /// An escalated conversation has no approval, or several, or one of another message.
    Approvals {
        /// The conversation's number.
        conversation: i64,
        /// The messages that its approvals are from.
        of_messages: Vec<i64>,
    },
    /// There are more or fewer notes with a marker than one.
    Notes {
        /// The conversation's number.
        conversation: i64,
        /// The marker.
        marker: String,
        /// How many there are.
        found: usize,
    },
    /// A server panicked.
    Panic(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverAnswered(name) => write!(formatter, "{name} never got a 200"),
            Self::SeveralIds(name, ids) => write!(formatter, "{name} was given several ids: {ids:?}"),
            Self::NewTwice(name) => write!(formatter, "{name} was accepted as new more than once"),
            Self::SharedId(one, other) => write!(formatter, "{one} was given the id of {other}"),
            Self::Lost(name, id) => write!(formatter, "lost: {name} ({id}) got a 200 and had no effect"),
            Self::Doubled(name, id, times) => write!(formatter, "doubled: {name} ({id}) had {times} effects"),
            Self::Disordered { event, earlier } => {
                write!(formatter, "out of order: {event} had its effect before that of {earlier}")
            }
            Self::Apart(name, id) => {
                write!(
                    formatter,
                    "{name} ({id}) had its effect in one transaction and was marked as done in another"
                )
            }
            Self::Timeline(name, id, times) => {
                write!(formatter, "the timeline tells that {name} ({id}) has run {times} times")
            }
            Self::Stranger(id) => write!(formatter, "{id} had an effect, and nobody has sent it"),
            Self::Mirror { conversation, sent, shown } => write!(
                formatter,
                "conversation {conversation} shows {shown:?}, and the last message sent was {sent:?}"
            ),
            Self::Dead(error) => write!(formatter, "an event was given up: {error}"),
            Self::DeadJob(error) => write!(formatter, "a job was given up: {error}"),
            Self::Waiting(count) => write!(formatter, "{count} events or jobs were not done in time"),
            Self::Keys { found, sent } => write!(formatter, "there are {found} keys of {sent} events"),
            Self::Numbers(Numbers { newest, lowest, highest, count }) => write!(
                formatter,
                "the stream's numbers: {count} from {lowest} to {highest}, and {newest} is said to be the newest"
            ),
            Self::NotHeard(numbers) => {
                write!(formatter, "who listened has missed {} events: {}", numbers.len(), some(numbers))
            }
            Self::HeardWrongly(numbers) => write!(
                formatter,
                "who listened has heard {} events twice, too late, or without the right: {}",
                numbers.len(),
                some(numbers)
            ),
            Self::Approvals { conversation, of_messages } => write!(
                formatter,
                "conversation {conversation} was escalated, and its approvals are of the messages {of_messages:?}"
            ),
            Self::Notes { conversation, marker, found } => {
                write!(formatter, "conversation {conversation} has {found} notes {marker}, and one is right")
            }
            Self::Panic(line) => write!(formatter, "a server panicked: {line}"),
        }
    }
}

fn some(numbers: &[i64]) -> String {
    let shown: Vec<String> = numbers.iter().take(10).map(ToString::to_string).collect();
    format!("{}{}", shown.join(", "), if numbers.len() > 10 { ", …" } else { "" })
}
