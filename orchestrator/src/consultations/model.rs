use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::ids::{ApprovalId, ConsultationId, TenantId, UserId};

/// The most characters of a title.
pub const MAX_TITLE: usize = 200;
/// The most participants besides the host.
pub const MAX_PARTICIPANTS: usize = 50;

/// How many minutes a consultation is to be, at least and at most, and unless told.
pub const DURATIONS: std::ops::RangeInclusive<i32> = 5..=24 * 60;
pub const DEFAULT_DURATION: i32 = 60;
/// So long before the time that is set for it, one may be in its room.
const EARLY: TimeDelta = TimeDelta::minutes(30);
/// So long after its planned end, its room is closed, and nobody is let in any more.
const GRACE: TimeDelta = TimeDelta::hours(2);
/// For so long its room may be empty before its planned end without it being over.
const BREAK: TimeDelta = TimeDelta::minutes(10);
/// So long after a room is reserved, that it is made is the same opening.
const MAKING: TimeDelta = TimeDelta::seconds(10);
/// What an opening is later by, at least, than all that was before.
const MOMENT: TimeDelta = TimeDelta::milliseconds(1);

/// How far a consultation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum ConsultationStatus {
    /// Not begun.
    Scheduled,
    /// Under way.
    Active,
    /// Over, for good.
    Ended,
    /// Will not take place.
    Cancelled,
}

impl ConsultationStatus {
    /// As stored and sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Active => "active",
            Self::Ended => "ended",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A consultation.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Consultation {
    /// Its id.
    pub id: ConsultationId,
    /// The tenant.
    pub tenant_id: TenantId,
    /// What it is about.
    pub title: String,
    /// The room; nobody can guess it.
    pub jitsi_room: String,
    /// How far it is.
    pub status: ConsultationStatus,
    /// Who hosts it.
    pub host_id: UserId,
    /// Who else takes part.
    pub participant_ids: Vec<UserId>,
    /// The approval that it is about.
    pub approval_id: Option<ApprovalId>,
    /// When it is to begin.
    pub scheduled_at: Option<DateTime<Utc>>,
    /// How long it is to be, in minutes.
    pub duration_minutes: i32,
    /// When its room was opened last, as Jitsi's server tells.
    pub room_opened_at: Option<DateTime<Utc>>,
    /// When its room was closed last, as Jitsi's server tells; when it was opened, where it must have been closed by then.
    pub room_closed_at: Option<DateTime<Utc>>,
    /// When it began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Goes up with each change; the `ETag`.
    pub version: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// Somebody's time in a consultation's room, as Jitsi's server told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attendance {
    /// Their address in the room, another one each time that they come in.
    #[serde(skip)]
    pub occupant: String,
    /// Who it was; none where that isn't known.
    pub user_id: Option<UserId>,
    /// The name that they were seen by.
    pub name: String,
    /// When they came in, where that was told.
    pub joined_at: Option<DateTime<Utc>>,
    /// When they left, where they have.
    pub left_at: Option<DateTime<Utc>>,
}

/// What a consultation is asked for with, checked.
#[derive(Debug, Clone)]
pub struct NewConsultation {
    /// What it is about.
    pub title: String,
    /// Who takes part besides the host.
    pub participant_ids: Vec<UserId>,
    /// The approval that it is about.
    pub approval_id: Option<ApprovalId>,
    /// When it is to begin.
    pub scheduled_at: Option<DateTime<Utc>>,
    /// How long it is to be, in minutes.
    pub duration_minutes: i32,
}

/// Why something can't happen to a consultation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// It is over.
    #[error("it is over")]
    Over,
    /// It hasn't begun.
    #[error("it has not begun")]
    NotStarted,
    /// It goes on.
    #[error("it has begun")]
    Started,
    /// It was cancelled.
    #[error("it was cancelled")]
    Cancelled,
    /// Its room isn't open yet.
    #[error("its room isn't open yet")]
    TooEarly,
}

impl Consultation {
    /// Everybody who takes part, the host first.
    pub fn involved(&self) -> Vec<UserId> {
        std::iter::once(self.host_id).chain(self.participant_ids.iter().copied()).collect()
    }

    /// The time that is set for it, unless it was started so long before that it no longer counts.
    fn set_for(&self) -> Option<DateTime<Utc>> {
        self.scheduled_at.filter(|set| self.started_at.is_none_or(|started| started >= *set - EARLY))
    }

    /// When it ends as planned: so long after it began, or is to begin, as it is to be. Who is early takes nothing off it.
    fn planned_end(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let begin = self.started_at.max(self.set_for()).unwrap_or(now);
        begin + TimeDelta::minutes(i64::from(self.duration_minutes))
    }

    /// Until when one may be in its room at `now`: two hours beyond the planned end.
    ///
    /// # Errors
    /// [`TransitionError::TooEarly`] until half an hour before the time that is set for it, unless the host has started it;
    /// [`TransitionError::Over`], [`TransitionError::Cancelled`].
    pub fn room_closes_at(&self, now: DateTime<Utc>) -> Result<DateTime<Utc>, TransitionError> {
        let closes_at = self.planned_end(now) + GRACE;
        match self.status {
            ConsultationStatus::Ended => Err(TransitionError::Over),
            ConsultationStatus::Cancelled => Err(TransitionError::Cancelled),
            ConsultationStatus::Scheduled if self.scheduled_at.is_some_and(|at| now < at - EARLY) => {
                Err(TransitionError::TooEarly)
            }
            _ if now >= closes_at => Err(TransitionError::Over),
            ConsultationStatus::Scheduled | ConsultationStatus::Active => Ok(closes_at),
        }
    }

    /// Whether there is a room at Jitsi's server, as far as that told. Of one moment, the opening is the later.
    pub fn is_room_open(&self) -> bool {
        self.room_opened_at.is_some_and(|opened| self.room_closed_at.is_none_or(|closed| closed <= opened))
    }

    fn with_room(
        &self,
        opened_at: Option<DateTime<Utc>>,
        closed_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            room_opened_at: opened_at,
            room_closed_at: closed_at,
            version: self.version + 1,
            updated_at: now,
            ..self.clone()
        }
    }

    /// The same opened at `at`. Where it is open, that it was closed before wasn't told, and isn't to close it again.
    fn opened(&self, at: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        let closed_at = if self.is_room_open() { Some(at) } else { self.room_closed_at };
        self.with_room(Some(at), closed_at, now)
    }

    /// The consultation with its room reserved at `now`, which nobody asks for where there is a room: it is another opening,
    /// later than all that was before.
    #[must_use]
    pub fn room_reserved(&self, now: DateTime<Utc>) -> Self {
        let last = self.room_opened_at.max(self.room_closed_at);
        self.opened(last.map_or(now, |last| now.max(last + MOMENT)), now)
    }

    /// The consultation with its room opened at `at`, as told; none where that is known, or it was opened later. That it was
    /// closed before, or since, may be told only afterwards.
    pub fn room_opened(&self, at: DateTime<Utc>, now: DateTime<Utc>) -> Option<Self> {
        let is_before_closing = self.room_closed_at.is_some_and(|closed| at.timestamp() < closed.timestamp());
        let making = if self.is_room_open() || is_before_closing { MAKING } else { TimeDelta::zero() };
        if self.room_opened_at.is_some_and(|opened| at <= opened + making) {
            return None;
        }
        // Some servers tell whole seconds: within one, a room that was closed was opened again.
        let closed_at = self.room_closed_at.filter(|closed| closed.timestamp() == at.timestamp());
        Some(self.opened(closed_at.map_or(at, |closed| closed.max(at)), now))
    }

    /// The consultation with its room closed at `at`, as told; none where it was opened later, or closed then or later. That
    /// it was opened may be told only afterwards.
    pub fn room_closed(&self, at: DateTime<Utc>, now: DateTime<Utc>) -> Option<Self> {
        if self.room_closed_at.is_some_and(|closed| closed >= at) {
            return None;
        }
        let Some(opened_at) = self.room_opened_at else {
            return Some(self.with_room(None, Some(at), now));
        };
        // Some servers tell whole seconds: within one, this is the first closing that is told of.
        let is_told_of = self.room_closed_at.is_some_and(|closed| closed.timestamp() == at.timestamp());
        let is_whole_second = at.timestamp_subsec_nanos() == 0;
        let is_same_second = is_whole_second && at.timestamp() == opened_at.timestamp();
        if (at < opened_at && !is_same_second) || (is_same_second && is_told_of) {
            return None;
        }
        Some(self.with_room(Some(opened_at), Some(at.max(opened_at + MOMENT)), now))
    }

    /// The consultation with its room released at `now`, as it was reserved at `reserved_at`, in whole milliseconds, where that
    /// is said; none where it isn't open, or was opened again since.
    pub fn room_released(&self, reserved_at: Option<i64>, now: DateTime<Utc>) -> Option<Self> {
        let opened_at = self.room_opened_at.filter(|_| self.is_room_open())?;
        let is_another = reserved_at.is_some_and(|reserved| reserved < opened_at.timestamp_millis());
        (!is_another).then(|| self.with_room(Some(opened_at), Some(now.max(opened_at + MOMENT)), now))
    }

    /// When nobody is let in any more, and it is over whatever its host does: for one that has begun, or whose time is set.
    pub fn expires_at(&self) -> Option<DateTime<Utc>> {
        let open = matches!(self.status, ConsultationStatus::Scheduled | ConsultationStatus::Active);
        let begin = self.started_at.or(self.scheduled_at).filter(|_| open)?;
        Some(self.planned_end(begin) + GRACE)
    }

    /// When it is over because its room is empty: after a break, or at once where it was to end by then. Never before the time
    /// that is set for it, nor by what was before it was started.
    pub fn empty_until(&self) -> Option<DateTime<Utc>> {
        let closed_at = self.room_closed_at.filter(|_| !self.is_room_open())?;
        if self.started_at.is_some_and(|started| closed_at < started) {
            return None;
        }
        let is_done = closed_at >= self.planned_end(closed_at);
        Some(if is_done {
            closed_at
        } else {
            self.set_for().map_or(closed_at, |set| set.max(closed_at)) + BREAK
        })
    }

    /// The consultation over by time: ended, when its room was left last, or cancelled where it never began. Where nobody tells
    /// who is in a room, that it was opened says that it began.
    pub fn expired(&self, now: DateTime<Utc>) -> Option<Self> {
        let over = match self.status {
            ConsultationStatus::Active => self.ended(now),
            ConsultationStatus::Scheduled if self.room_opened_at.is_some() => Ok(Some(Self {
                status: ConsultationStatus::Ended,
                started_at: self.room_opened_at,
                ended_at: Some(now),
                version: self.version + 1,
                updated_at: now,
                ..self.clone()
            })),
            ConsultationStatus::Scheduled => self.cancelled(now),
            ConsultationStatus::Ended | ConsultationStatus::Cancelled => return None,
        };
        let mut over = over.ok().flatten()?;
        let left_at = self.room_closed_at.filter(|_| !self.is_room_open());
        over.ended_at =
            over.ended_at.map(|ended| left_at.unwrap_or(ended).max(over.started_at.unwrap_or(ended)));
        Some(over)
    }

    /// The consultation started at `now`; none where it has been started before: that is the same start.
    ///
    /// # Errors
    /// [`TransitionError::Over`].
    pub fn started(&self, now: DateTime<Utc>) -> Result<Option<Self>, TransitionError> {
        match self.status {
            ConsultationStatus::Active => Ok(None),
            ConsultationStatus::Ended => Err(TransitionError::Over),
            ConsultationStatus::Cancelled => Err(TransitionError::Cancelled),
            ConsultationStatus::Scheduled => Ok(Some(Self {
                status: ConsultationStatus::Active,
                started_at: Some(now),
                version: self.version + 1,
                updated_at: now,
                ..self.clone()
            })),
        }
    }

    /// The consultation ended at `now`; none where it has been ended before.
    ///
    /// # Errors
    /// [`TransitionError`].
    pub fn ended(&self, now: DateTime<Utc>) -> Result<Option<Self>, TransitionError> {
        match self.status {
            ConsultationStatus::Ended => Ok(None),
            ConsultationStatus::Scheduled => Err(TransitionError::NotStarted),
            ConsultationStatus::Cancelled => Err(TransitionError::Cancelled),
            ConsultationStatus::Active => Ok(Some(Self {
                status: ConsultationStatus::Ended,
                ended_at: Some(now),
                version: self.version + 1,
                updated_at: now,
                ..self.clone()
            })),
        }
    }

    /// The consultation cancelled at `now`; none where it has been cancelled before. What has begun is ended instead.
    ///
    /// # Errors
    /// [`TransitionError::Started`], [`TransitionError::Over`].
    pub fn cancelled(&self, now: DateTime<Utc>) -> Result<Option<Self>, TransitionError> {
        match self.status {
            ConsultationStatus::Cancelled => Ok(None),
            ConsultationStatus::Active => Err(TransitionError::Started),
            ConsultationStatus::Ended => Err(TransitionError::Over),
            ConsultationStatus::Scheduled => Ok(Some(Self {
                status: ConsultationStatus::Cancelled,
                version: self.version + 1,
                updated_at: now,
                ..self.clone()
            })),
        }
    }
}

/// Which consultations to read.
#[derive(Debug, Clone, Default)]
pub struct ConsultationFilter {
    /// Tenants of which all are read.
    pub tenants: Vec<TenantId>,
    /// Tenants of which only those are read in which the reader takes part.
    pub own_in: Vec<TenantId>,
    /// Only those before this one.
    pub before: Option<ConsultationId>,
    /// At most so many.
    pub limit: u32,
}
