use std::{ops::Deref, sync::Arc, time::Duration};

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use chrono::{DateTime, Utc};

use super::{
    bearer::{self, TokenError},
    policy::{Decision, Permission},
    principal::{Principal, PrincipalError},
    refusals::Refusals,
    step_up::{Authentication, Means, Proof},
};
use crate::{
    app::AppState,
    config::StepUpConfig,
    http::{Problem, middleware::Charge},
    ids::TenantId,
};

/// Who calls the API, proven by an access token.
#[derive(Debug, Clone)]
pub struct Caller {
    principal: Arc<Principal>,
    /// When the proof of who calls ends, in seconds since 1970.
    expires_at: Option<i64>,
    authentication: Authentication,
    /// Where it is noted that a tenant of others was named; none for pages, which note it themselves.
    refusals: Option<Refusals>,
}

impl Deref for Caller {
    type Target = Principal;

    fn deref(&self) -> &Principal {
        &self.principal
    }
}

impl Caller {
    pub(super) fn new(principal: Arc<Principal>, authentication: Authentication) -> Self {
        Self { principal, expires_at: None, authentication, refusals: None }
    }

    /// How and when they proved who they are, and what counts.
    pub fn proof<'a>(&'a self, rules: &'a StepUpConfig) -> Proof<'a> {
        let means = if self.expires_at.is_some() { Means::Bearer } else { Means::Session };
        Proof { means, proven: &self.authentication, rules }
    }

    /// The principal, for a transaction.
    pub fn principal(&self) -> Arc<Principal> {
        Arc::clone(&self.principal)
    }

    /// For how long the access token is still good; without end where there is a session instead.
    pub fn valid_for(&self, now: DateTime<Utc>) -> Option<Duration> {
        let left = self.expires_at?.saturating_add(bearer::SKEW_SECONDS).saturating_sub(now.timestamp());
        Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
    }

    /// The tenant that a request names by UUID or path; who runs the suite may name it, too.
    ///
    /// # Errors
    /// 404 where it is unknown or the caller isn't in it: the same answer for both, and the same record.
    pub fn named_tenant(&self, named: &str) -> Result<TenantId, Problem> {
        if let Some(tenant) = self.principal.tenant(named) {
            return Ok(tenant.id);
        }
        if self.principal.names_suite(named) {
            return Ok(TenantId::SUITE);
        }
        if let Some(refusals) = &self.refusals {
            refusals.note(&self.principal, named);
        }
        Err(Problem::not_found())
    }

    /// The tenants that a list reads: the named one, or all in which the caller may.
    ///
    /// # Errors
    /// 404 for a foreign tenant, 403 where the caller is in the tenant and may not.
    pub fn tenants_to_read(
        &self,
        named: Option<&str>,
        permission: Permission,
    ) -> Result<Vec<TenantId>, Problem> {
        let readable = self.principal.tenants_with(permission);
        let Some(named) = named else { return Ok(readable) };
        let tenant = self.named_tenant(named)?;
        if readable.contains(&tenant) { Ok(vec![tenant]) } else { Err(Problem::forbidden()) }
    }

    /// Turns a decision into its answer.
    ///
    /// # Errors
    /// 404 for a stranger, 403 otherwise.
    pub fn require(&self, decision: Decision) -> Result<(), Problem> {
        match decision {
            Decision::Allowed => Ok(()),
            Decision::Stranger => Err(Problem::not_found()),
            Decision::MissingPermission
            | Decision::OwnRequest
            | Decision::NotOwnRequest
            | Decision::NotInvolved => Err(Problem::forbidden()),
        }
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let charge = Charge::of(parts, state);
        // Charged only after it has failed: a flood of wrong tokens doesn't lock out who comes from the same address with
        // a right one.
        let unproven = || charge.for_failure(state, Problem::unauthorised());
        let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return Err(unproven()) };
        let token = value.to_str().ok().and_then(bearer_token).ok_or_else(unproven)?;
        let claims = bearer::verify(
            &state.keys,
            &state.issuer,
            &state.config.keycloak.audience,
            state.clock.now(),
            token,
        )
        .await
        .map_err(|error| match error {
            TokenError::Refused(reason) => {
                tracing::debug!(reason, "an access token was refused");
                metrics::counter!("chancery_tokens_refused_total", "reason" => reason).increment(1);
                unproven()
            }
            error @ TokenError::Unavailable(_) => Problem::unavailable(&error),
        })?;
        charge.to(state.limits.principal.take(&claims.sub))?;
        match state.directory.principal_claiming(claims.sub, &claims.groups).await {
            Ok(principal) => Ok(Self {
                principal,
                expires_at: Some(claims.expires_at()),
                authentication: claims.authentication(),
                refusals: Some(state.refusals.clone()),
            }),
            Err(PrincipalError::Unknown) => Err(Problem::unauthorised()),
            Err(error @ PrincipalError::Unavailable(_)) => Err(Problem::unavailable(&error)),
        }
    }
}

/// The token of `Authorization: Bearer …`; the scheme's name has no case (RFC 9110, section 11.1).
pub fn bearer_token(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
