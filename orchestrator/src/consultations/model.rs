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
    /// When its room was closed last, as Jitsi's server tells.
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

    /// When it ends as planned: so long after it began, or is to begin, as it is to be.
    fn planned_end(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let begin = self.started_at.or(self.scheduled_at).unwrap_or(now);
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

    /// Whether there is a room at Jitsi's server, as far as that told.
    pub fn is_room_open(&self) -> bool {
        self.room_opened_at.is_some_and(|opened| self.room_closed_at.is_none_or(|closed| closed < opened))
    }

    /// The consultation with its room opened at `at`; none where it is open, or was opened later.
    pub fn room_opened(&self, at: DateTime<Utc>, now: DateTime<Utc>) -> Option<Self> {
        let is_later = self.room_opened_at.is_none_or(|opened| opened <= at);
        (!self.is_room_open() && is_later).then(|| Self {
            room_opened_at: Some(at),
            version: self.version + 1,
            updated_at: now,
            ..self.clone()
        })
    }

    /// The consultation with its room closed at `at`; none where it was opened later, or closed then or later. That it was
    /// opened may be told only afterwards.
    pub fn room_closed(&self, at: DateTime<Utc>, now: DateTime<Utc>) -> Option<Self> {
        // Some servers tell whole seconds: within one, closing comes last.
        let opened_at = self.room_opened_at.filter(|opened| at.timestamp() <= opened.timestamp());
        if opened_at.is_some_and(|opened| at.timestamp() < opened.timestamp()) {
            return None;
        }
        let at = opened_at.map_or(at, |opened| opened.max(at));
        self.room_closed_at.is_none_or(|closed| closed < at).then(|| Self {
            room_closed_at: Some(at),
            version: self.version + 1,
            updated_at: now,
            ..self.clone()
        })
    }

    /// When nobody is let in any more, and it is over whatever its host does: for one that has begun, or whose time is set.
    pub fn expires_at(&self) -> Option<DateTime<Utc>> {
        let open = matches!(self.status, ConsultationStatus::Scheduled | ConsultationStatus::Active);
        let begin = self.started_at.or(self.scheduled_at).filter(|_| open)?;
        Some(self.planned_end(begin) + GRACE)
    }

    /// When it is over because its room is empty: after a break, or at once where it was to end by then.
    pub fn empty_until(&self) -> Option<DateTime<Utc>> {
        let closed_at = self.room_closed_at.filter(|_| !self.is_room_open())?;
        let is_done = closed_at >= self.planned_end(closed_at);
        Some(if is_done { closed_at } else { closed_at + BREAK })
    }

    /// The consultation over by time: ended, when its room was left last, or cancelled where it never began.
    pub fn expired(&self, now: DateTime<Utc>) -> Option<Self> {
        let over = match self.status {
            ConsultationStatus::Active => self.ended(now),
            ConsultationStatus::Scheduled => self.cancelled(now),
            ConsultationStatus::Ended | ConsultationStatus::Cancelled => return None,
        };
        let mut over = over.ok().flatten()?;
        let left_at = self.room_closed_at.filter(|_| !self.is_room_open());
        over.ended_at =
            over.ended_at.map(|ended| left_at.unwrap_or(ended).max(self.started_at.unwrap_or(ended)));
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
