//! What was promised, what was found, and where they differ. Pure, so that tests can show that it notices.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
};

use uuid::Uuid;

pub use crate::violation::Violation;

/// So many events a stream replays (`realtime/stream.rs`).
const MOST_REPLAYED: i64 = 10_000;

/// What a 200 said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// The event's id there.
    pub id: Uuid,
    /// Whether it had been received before.
    pub duplicate: bool,
}

/// What an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A customer's message, which becomes the conversation's last one.
    Message,
    /// A private note that escalates.
    Escalation,
}

/// An event as its sender knows it.
#[derive(Debug, Clone)]
pub struct Posted {
    /// The conversation's number.
    pub conversation: i64,
    /// Its place among the conversation's events, from 0 without a gap.
    pub number: u32,
    /// The message's id in Chatwoot.
    pub message: i64,
    /// What it is.
    pub kind: Kind,
    /// What it says.
    pub content: String,
    /// What each 200 said.
    pub answers: Vec<Received>,
}

impl Posted {
    fn name(&self) -> Name {
        Name { conversation: self.conversation, number: self.number }
    }
}

/// An event, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The conversation's number.
    pub conversation: i64,
    /// Its place there.
    pub number: u32,
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "event {} of conversation {}", self.number, self.conversation)
    }
}

/// An approval that the escalation of a conversation has led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Escalated {
    /// Its id.
    pub approval: Uuid,
    /// The conversation's number.
    pub conversation: i64,
    /// The id of the message that escalated it.
    pub message: i64,
}

/// A private note in Chatwoot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The conversation's number.
    pub conversation: i64,
    /// What its writer knows it by.
    pub marker: String,
}

/// The numbers of a tenant's event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// What the stream says its newest one is.
    pub newest: i64,
    /// The lowest that is there.
    pub lowest: i64,
    /// The highest that is there.
    pub highest: i64,
    /// How many are there.
    pub count: i64,
}

/// What is found when all is done.
#[derive(Debug, Clone)]
pub struct Found {
    /// The source of the webhooks.
    pub source: Uuid,
    /// The events that have had an effect, in the order of the effects; one that had two stands there twice.
    pub effects: Vec<Uuid>,
    /// The events whose effect was in another transaction than the removal of their mark.
    pub apart: Vec<Uuid>,
    /// How many attempts have failed, and were made again.
    pub failed_attempts: i64,
    /// The events on the timeline; one that has run twice stands there twice.
    pub timeline: Vec<Uuid>,
    /// The last message of each conversation in the mirror.
    pub mirror: HashMap<i64, String>,
    /// The events that were given up, with their errors.
    pub dead: Vec<String>,
    /// The jobs that were given up, with their errors.
    pub dead_jobs: Vec<String>,
    /// How much still waits.
    pub waiting: i64,
    /// How many keys are known.
    pub keys: i64,
    /// The numbers of the tenant's event stream.
    pub numbers: Numbers,
    /// The numbers that somebody may see who listens.
    pub told: Vec<i64>,
    /// The numbers that somebody has heard who listened all the time.
    pub heard: Vec<i64>,
    /// Where a stream's greeting has said that it doesn't go on after this number, but after that one.
    pub skipped: Vec<(i64, i64)>,
    /// The approvals.
    pub escalated: Vec<Escalated>,
    /// The private notes.
    pub notes: Vec<Note>,
    /// What the servers' logs say of panics.
    pub panics: Vec<String>,
}

/// Compares what was promised with what was found.
pub fn judge(posted: &[Posted], found: &Found) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut names: HashMap<Uuid, Name> = HashMap::new();
    for event in posted {
        let name = event.name();
        let Some(first) = event.answers.first() else {
            violations.push(Violation::NeverAnswered(name));
            continue;
        };
        let ids: BTreeSet<Uuid> = event.answers.iter().map(|answer| answer.id).collect();
        if ids.len() > 1 {
            violations.push(Violation::SeveralIds(name, ids));
        }
        if event.answers.iter().filter(|answer| !answer.duplicate).count() > 1 {
            violations.push(Violation::NewTwice(name));
        }
        if let Some(other) = names.insert(first.id, name) {
            violations.push(Violation::SharedId(name, other));
        }
    }
    judge_effects(posted, found, &names, &mut violations);
    violations
        .extend(found.apart.iter().filter_map(|id| names.get(id).map(|name| Violation::Apart(*name, *id))));
    judge_timeline(posted, found, &names, &mut violations);
    judge_mirror(posted, found, &mut violations);
    judge_escalations(posted, found, &mut violations);
    judge_stream(found, &mut violations);
    violations.extend(found.dead.iter().cloned().map(Violation::Dead));
    violations.extend(found.dead_jobs.iter().cloned().map(Violation::DeadJob));
    violations.extend(found.panics.iter().cloned().map(Violation::Panic));
    if found.waiting != 0 {
        violations.push(Violation::Waiting(found.waiting));
    }
    if usize::try_from(found.keys).ok() != Some(posted.len()) {
        violations.push(Violation::Keys { found: found.keys, sent: posted.len() });
    }
    violations
}

/// Each event exactly once, and in order within its conversation.
fn judge_effects(
    posted: &[Posted],
    found: &Found,
    names: &HashMap<Uuid, Name>,
    violations: &mut Vec<Violation>,
) {
    let mut times: HashMap<Uuid, usize> = HashMap::new();
    // Of each conversation, the latest event that has had its effect so far.
    let mut latest: HashMap<i64, Name> = HashMap::new();
    for id in &found.effects {
        let seen = times.entry(*id).or_default();
        *seen += 1;
        let Some(name) = names.get(id) else {
            violations.push(Violation::Stranger(*id));
            continue;
        };
        // One that is doubled is told of as that.
        if *seen > 1 {
            continue;
        }
        match latest.get(&name.conversation).copied() {
            Some(before) if before.number > name.number => {
                violations.push(Violation::Disordered { event: before, earlier: *name });
            }
            _ => {
                latest.insert(name.conversation, *name);
            }
        }
    }
    for event in posted {
        let Some(first) = event.answers.first() else { continue };
        match times.get(&first.id).copied().unwrap_or(0) {
            0 => violations.push(Violation::Lost(event.name(), first.id)),
            1 => {}
            times => violations.push(Violation::Doubled(event.name(), first.id, times)),
        }
    }
}

/// The timeline tells of each event that it has run once.
fn judge_timeline(
    posted: &[Posted],
    found: &Found,
    names: &HashMap<Uuid, Name>,
    violations: &mut Vec<Violation>,
) {
    let mut times: BTreeMap<Uuid, usize> = BTreeMap::new();
    for id in &found.timeline {
        *times.entry(*id).or_default() += 1;
    }
    for event in posted {
        let Some(first) = event.answers.first() else { continue };
        let times = times.get(&first.id).copied().unwrap_or(0);
        if times != 1 {
            violations.push(Violation::Timeline(event.name(), first.id, times));
        }
    }
    violations.extend(times.into_keys().filter(|id| !names.contains_key(id)).map(Violation::Stranger));
}

/// The mirror shows each conversation's last message.
fn judge_mirror(posted: &[Posted], found: &Found, violations: &mut Vec<Violation>) {
    let mut last: BTreeMap<i64, &Posted> = BTreeMap::new();
    for event in posted.iter().filter(|event| event.kind == Kind::Message) {
        let known = last.entry(event.conversation).or_insert(event);
        if event.number > known.number {
            *known = event;
        }
    }
    for (conversation, event) in last {
        let shown = found.mirror.get(&conversation);
        if shown != Some(&event.content) {
            violations.push(Violation::Mirror {
                conversation,
                sent: event.content.clone(),
                shown: shown.cloned(),
            });
        }
    }
}

/// Of the escalations of a conversation one has led to an approval and to the note of it; each of the others, to one note
/// that says that there is one already.
fn judge_escalations(posted: &[Posted], found: &Found, violations: &mut Vec<Violation>) {
    let mut escalations: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
    for event in posted.iter().filter(|event| event.kind == Kind::Escalation) {
        escalations.entry(event.conversation).or_default().insert(event.message);
    }
    let mut notes: BTreeMap<(i64, String), usize> = BTreeMap::new();
    for note in &found.notes {
        *notes.entry((note.conversation, note.marker.clone())).or_default() += 1;
    }
    // What somebody should find, and nobody has written, is there zero times.
    let mut expected = BTreeSet::new();
    for (conversation, messages) in &escalations {
        let approvals: Vec<&Escalated> =
            found.escalated.iter().filter(|one| one.conversation == *conversation).collect();
        match approvals.as_slice() {
            [approval] if messages.contains(&approval.message) => {
                expected.insert((*conversation, format!("chancery:{}:pending", approval.approval)));
                let others = messages.iter().filter(|message| **message != approval.message);
                expected.extend(others.map(|message| {
                    (*conversation, format!("chancery:escalate-note:{}:{message}", found.source))
                }));
            }
            _ => violations.push(Violation::Approvals {
                conversation: *conversation,
                of_messages: approvals.iter().map(|approval| approval.message).collect(),
            }),
        }
    }
    for one in found.escalated.iter().filter(|one| !escalations.contains_key(&one.conversation)) {
        violations
            .push(Violation::Approvals { conversation: one.conversation, of_messages: vec![one.message] });
    }
    for (conversation, marker) in &expected {
        let count = notes.get(&(*conversation, marker.clone())).copied().unwrap_or(0);
        if count != 1 {
            violations.push(Violation::Notes {
                conversation: *conversation,
                marker: marker.clone(),
                found: count,
            });
        }
    }
    for ((conversation, marker), count) in notes {
        if !expected.contains(&(conversation, marker.clone())) {
            violations.push(Violation::Notes { conversation, marker, found: count });
        }
    }
}

/// The stream is numbered without a gap, and who listened has heard each number that is for them once, in order.
fn judge_stream(found: &Found, violations: &mut Vec<Violation>) {
    let Numbers { newest, lowest, highest, count } = found.numbers;
    if lowest != 1 || highest != newest || count != newest {
        violations.push(Violation::Numbers(found.numbers));
    }
    let (told, heard): (HashSet<i64>, HashSet<i64>) =
        (found.told.iter().copied().collect(), found.heard.iter().copied().collect());
    // Who was away for longer than a stream replays is told so, and looks at everything anew.
    let is_skipped = |number: i64| {
        found.skipped.iter().any(|(from, to)| to - from > MOST_REPLAYED && (from + 1..=*to).contains(&number))
    };
    let missed: Vec<i64> =
        found.told.iter().copied().filter(|number| !heard.contains(number) && !is_skipped(*number)).collect();
    if !missed.is_empty() {
        violations.push(Violation::NotHeard(missed));
    }
    let mut highest = 0;
    let mut wrong = Vec::new();
    for number in &found.heard {
        if *number <= highest || !told.contains(number) {
            wrong.push(*number);
        }
        highest = highest.max(*number);
    }
    if !wrong.is_empty() {
        violations.push(Violation::HeardWrongly(wrong));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Uuid = Uuid::from_u128(0x50);
    const APPROVAL: Uuid = Uuid::from_u128(0xa0);

    fn id(conversation: i64, number: u32) -> Uuid {
        Uuid::from_u64_pair(conversation.unsigned_abs(), u64::from(number))
    }

    /// Two conversations of five events each; the first is escalated twice.
    fn history() -> (Vec<Posted>, Found) {
        let mut posted = Vec::new();
        for conversation in [1, 2] {
            for number in 0..5 {
                let kind = if conversation == 1 && [1, 3].contains(&number) {
                    Kind::Escalation
                } else {
                    Kind::Message
                };
                let received = Received { id: id(conversation, number), duplicate: false };
                posted.push(Posted {
                    conversation,
                    number,
                    message: conversation * 100 + i64::from(number),
                    kind,
                    content: format!("event {number}"),
                    answers: vec![received, Received { duplicate: true, ..received }],
                });
            }
        }
        // The conversations' effects alternate.
        let effects: Vec<Uuid> = (0..5).flat_map(|number| [id(2, number), id(1, number)]).collect();
        let note = |marker: String| Note { conversation: 1, marker };
        let found = Found {
            source: SOURCE,
            timeline: effects.clone(),
            effects,
            apart: Vec::new(),
            failed_attempts: 0,
            mirror: HashMap::from([(1, "event 4".to_owned()), (2, "event 4".to_owned())]),
            dead: Vec::new(),
            dead_jobs: Vec::new(),
            waiting: 0,
            keys: 10,
            numbers: Numbers { newest: 12, lowest: 1, highest: 12, count: 12 },
            told: vec![1, 2, 5, 12],
            heard: vec![1, 2, 5, 12],
            skipped: Vec::new(),
            escalated: vec![Escalated { approval: APPROVAL, conversation: 1, message: 103 }],
            notes: vec![
                note(format!("chancery:{APPROVAL}:pending")),
                note(format!("chancery:escalate-note:{SOURCE}:101")),
            ],
            panics: Vec::new(),
        };
        (posted, found)
    }

    fn name(conversation: i64, number: u32) -> Name {
        Name { conversation, number }
    }

    /// What is found where somebody has tampered with the history.
    fn found_after(tamper: impl FnOnce(&mut Vec<Posted>, &mut Found)) -> Vec<Violation> {
        let (mut posted, mut found) = history();
        tamper(&mut posted, &mut found);
        judge(&posted, &found)
    }

    #[test]
    fn a_history_in_order_breaks_nothing() {
        assert_eq!(found_after(|_, _| ()), []);
    }

    #[test]
    fn an_answer_that_nobody_heard_is_no_matter() {
        // The first attempt was stored and its answer lost: the sender hears of it only as a repeat.
        let late =
            |posted: &mut Vec<Posted>, _: &mut Found| posted[3].answers.retain(|answer| answer.duplicate);
        assert_eq!(found_after(late), []);
    }

    #[test]
    fn a_lost_event_is_noticed() {
        let lost = id(2, 3);
        let violations = found_after(|_, found| found.effects.retain(|effect| *effect != lost));
        assert_eq!(violations, [Violation::Lost(name(2, 3), lost)]);
    }

    #[test]
    fn a_doubled_event_is_noticed_at_once_and_later() {
        let doubled = Violation::Doubled(name(2, 0), id(2, 0), 2);
        assert_eq!(found_after(|_, found| found.effects.insert(1, id(2, 0))), std::slice::from_ref(&doubled));
        assert_eq!(found_after(|_, found| found.effects.push(id(2, 0))), [doubled]);
    }

    #[test]
    fn swapped_events_of_one_conversation_are_noticed_and_of_two_are_not() {
        let violations = found_after(|_, found| found.effects.swap(4, 6));
        assert_eq!(violations, [Violation::Disordered { event: name(2, 3), earlier: name(2, 2) }]);
        assert_eq!(found_after(|_, found| found.effects.swap(4, 5)), []);
    }

    #[test]
    fn an_event_far_too_late_is_out_of_order_once() {
        let violations = found_after(|_, found| {
            let first = found.effects.remove(0);
            found.effects.push(first);
        });
        assert_eq!(violations, [Violation::Disordered { event: name(2, 4), earlier: name(2, 0) }]);
    }

    #[test]
    fn an_effect_of_what_nobody_sent_is_noticed() {
        let violations = found_after(|_, found| found.effects.push(id(9, 9)));
        assert_eq!(violations, [Violation::Stranger(id(9, 9))]);
    }

    #[test]
    fn an_effect_apart_from_its_mark_is_noticed() {
        let violations = found_after(|_, found| found.apart.push(id(2, 1)));
        assert_eq!(violations, [Violation::Apart(name(2, 1), id(2, 1))]);
    }

    #[test]
    fn a_timeline_that_says_otherwise_is_noticed() {
        let violations = found_after(|_, found| found.timeline.push(id(2, 1)));
        assert_eq!(violations, [Violation::Timeline(name(2, 1), id(2, 1), 2)]);
        let violations = found_after(|_, found| found.timeline.retain(|one| *one != id(2, 1)));
        assert_eq!(violations, [Violation::Timeline(name(2, 1), id(2, 1), 0)]);
        let violations = found_after(|_, found| found.timeline.push(id(9, 9)));
        assert_eq!(violations, [Violation::Stranger(id(9, 9))]);
    }

    #[test]
    fn answers_that_contradict_each_other_are_noticed() {
        let never = found_after(|posted, found| {
            posted[9].answers.clear();
            found.effects.retain(|effect| *effect != id(2, 4));
            found.timeline.retain(|effect| *effect != id(2, 4));
        });
        assert_eq!(never, [Violation::NeverAnswered(name(2, 4))]);
        let other = Uuid::from_u128(7);
        let several = found_after(|posted, _| posted[9].answers[1].id = other);
        assert_eq!(several, [Violation::SeveralIds(name(2, 4), BTreeSet::from([other, id(2, 4)]))]);
        let new_twice = found_after(|posted, _| posted[9].answers[1].duplicate = false);
        assert_eq!(new_twice, [Violation::NewTwice(name(2, 4))]);
        // The second of two events was taken for a repeat of the first, and never processed.
        let shared = found_after(|posted, found| {
            posted[6].answers = posted[5].answers.clone();
            found.effects.retain(|effect| *effect != id(2, 1));
            found.timeline.retain(|effect| *effect != id(2, 1));
        });
        assert_eq!(shared, [Violation::SharedId(name(2, 1), name(2, 0))]);
    }

    #[test]
    fn a_mirror_that_went_back_is_noticed() {
        let violations = found_after(|_, found| {
            found.mirror.insert(2, "event 3".to_owned());
        });
        let expected = Violation::Mirror {
            conversation: 2,
            sent: "event 4".to_owned(),
            shown: Some("event 3".to_owned()),
        };
        assert_eq!(violations, [expected]);
        let violations = found_after(|_, found| drop(found.mirror.remove(&2)));
        assert!(matches!(violations.as_slice(), [Violation::Mirror { shown: None, .. }]), "{violations:?}");
    }

    #[test]
    fn what_is_left_over_is_noticed() {
        let violations = found_after(|_, found| {
            found.dead.push("poison".to_owned());
            found.dead_jobs.push("gone".to_owned());
            found.panics.push("panicked at".to_owned());
            found.waiting = 3;
            found.keys = 11;
        });
        assert_eq!(
            violations,
            [
                Violation::Dead("poison".to_owned()),
                Violation::DeadJob("gone".to_owned()),
                Violation::Panic("panicked at".to_owned()),
                Violation::Waiting(3),
                Violation::Keys { found: 11, sent: 10 },
            ]
        );
    }

    #[test]
    fn a_gap_in_the_streams_numbers_is_noticed() {
        for (newest, lowest, highest, count) in [(12, 1, 12, 11), (13, 1, 12, 12), (12, 2, 12, 11)] {
            let numbers = Numbers { newest, lowest, highest, count };
            let violations = found_after(|_, found| found.numbers = numbers);
            assert_eq!(violations, [Violation::Numbers(numbers)]);
        }
    }

    #[test]
    fn what_was_not_heard_or_heard_twice_is_noticed() {
        assert_eq!(found_after(|_, found| found.heard = vec![1, 2, 12]), [Violation::NotHeard(vec![5])]);
        // That it was told of a gap is an excuse only where so much was missed.
        for (to, violations) in [(10_003, vec![]), (10_002, vec![Violation::NotHeard(vec![5])])] {
            let found = found_after(|_, found| {
                (found.heard, found.skipped) = (vec![1, 2, 20_000], vec![(2, to)]);
                (found.told, found.numbers) = (
                    vec![1, 2, 5, 20_000],
                    Numbers { newest: 20_000, lowest: 1, highest: 20_000, count: 20_000 },
                );
            });
            assert_eq!(found, violations);
        }
        for (heard, wrong) in [(vec![1, 2, 2, 5, 12], 2), (vec![1, 5, 2, 12], 2), (vec![1, 2, 5, 7, 12], 7)] {
            assert_eq!(found_after(|_, found| found.heard = heard), [Violation::HeardWrongly(vec![wrong])]);
        }
    }

    #[test]
    fn escalations_that_came_to_nothing_or_to_too_much_are_noticed() {
        let none = found_after(|_, found| {
            found.escalated.clear();
            found.notes.clear();
        });
        assert_eq!(none, [Violation::Approvals { conversation: 1, of_messages: vec![] }]);
        let second = Escalated { approval: SOURCE, conversation: 1, message: 101 };
        let two = found_after(|_, found| {
            found.escalated.push(second);
            found.notes.clear();
        });
        assert_eq!(two, [Violation::Approvals { conversation: 1, of_messages: vec![103, 101] }]);
        let unasked = Escalated { approval: SOURCE, conversation: 2, message: 200 };
        let unasked = found_after(|_, found| found.escalated.push(unasked));
        assert_eq!(unasked, [Violation::Approvals { conversation: 2, of_messages: vec![200] }]);
    }

    #[test]
    fn a_note_too_many_or_too_few_is_noticed() {
        let pending = format!("chancery:{APPROVAL}:pending");
        let notes =
            |marker: &str, found| [Violation::Notes { conversation: 1, marker: marker.to_owned(), found }];
        assert_eq!(found_after(|_, found| drop(found.notes.remove(0))), notes(&pending, 0));
        assert_eq!(found_after(|_, found| found.notes.push(found.notes[0].clone())), notes(&pending, 2));
        // The one whose approval it became must not be refused as well.
        let refused = format!("chancery:escalate-note:{SOURCE}:103");
        let note = Note { conversation: 1, marker: refused.clone() };
        assert_eq!(found_after(|_, found| found.notes.push(note)), notes(&refused, 1));
    }
}
