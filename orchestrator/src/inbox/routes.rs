use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, post},
};
use connector_matrix::appservice;
use connector_webhooks::{Answer, Delivery, Outcome, Refused, RequestParts, Scheme, cloudevents, keycloak};
use secrecy::SecretString;
use serde::Serialize;
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouter},
    routes,
};

use super::{
    accepting::NotStored,
    chatwoot,
    model::{Identified, Incoming, RawRequest, subject_key},
    store,
};
use crate::{
    app::AppState,
    http::{
        Problem, ProblemResult,
        extract::{self, ApiPath},
        middleware::Charge,
        problem::ErrorChain,
    },
    ids::{InboxEventId, SourceId},
    sources::{self, Purpose, Source, SourceScheme},
};

/// Where most of what external tools post arrives.
pub const RECEIVING: &str = "/webhooks/{service}/{source}";

/// What answers at [`RECEIVING`]: mounted by itself, with nothing but the request between the router and it.
pub fn receiving() -> MethodRouter<AppState> {
    let (_, _, methods) = at_receiving();
    methods
}

/// The operations of [`receiving`], for the description.
pub fn described() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(at_receiving())
}

fn at_receiving() -> UtoipaMethodRouter<AppState> {
    routes!(receive, challenge, consent)
}

/// Where external tools post otherwise.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        // Some tools put a slash behind the address that they were given.
        .route("/webhooks/{service}/{source}/", post(receive))
        .routes(routes!(receive_below))
        .routes(routes!(receive_from_only_source))
        .routes(routes!(matrix_transaction))
        .routes(routes!(matrix_ping))
}

/// That an event is stored.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Received {
    /// The event's id here.
    id: InboxEventId,
    /// Whether it had been received before.
    duplicate: bool,
}

/// The same for an unknown source and a wrong signature.
fn refused() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "webhooks.refused", "The source or its signature is not known")
}

/// Counts a request that wasn't taken.
fn reject(service: &'static str, reason: &'static str) {
    metrics::counter!("chancery_inbox_rejected_total", "service" => service, "reason" => reason).increment(1);
}

/// What requests that name no source are counted under.
const NO_SOURCE: &str = "none";

/// A source that a request names, and whether the request was charged to its address for the look.
struct Named {
    source: Option<Arc<Source>>,
    charged: bool,
}

impl Named {
    fn nothing() -> Self {
        Self { source: None, charged: false }
    }

    /// The source with this id. A strange id is charged before the database is asked; one that has been a source's never is,
    /// so that no flood keeps a tool's webhooks out.
    async fn find(state: &AppState, charge: &Charge, id: &str) -> ProblemResult<Self> {
        let Ok(id) = id.parse::<SourceId>() else { return Ok(Self::nothing()) };
        let charged = sources::is_strange(state, id);
        if charged {
            charge.to_address(state)?;
        }
        let source = sources::find(state, id).await.map_err(sources::problem)?;
        Ok(Self { source, charged })
    }

    fn of_service(self, service: &str) -> Self {
        Self { source: self.source.filter(|source| source.service == service), ..self }
    }
}

/// What a request is without its body.
struct Sent {
    method: Method,
    headers: HeaderMap,
    query: Option<String>,
}

impl Sent {
    fn of(request: &Request) -> Self {
        Self {
            method: request.method().clone(),
            headers: request.headers().clone(),
            query: request.uri().query().map(str::to_owned),
        }
    }

    /// The same, without a copy: the headers are gone from the request, whose body is all that is still asked for.
    fn taken_from(request: &mut Request) -> Self {
        let headers = std::mem::take(request.headers_mut());
        Self { headers, method: request.method().clone(), query: request.uri().query().map(str::to_owned) }
    }

    fn parts(&self) -> RequestParts<'_> {
        RequestParts { method: &self.method, headers: &self.headers, query: self.query.as_deref() }
    }
}

/// Receives a webhook: verified by its source's scheme, stored, then answered.
#[utoipa::path(
    post, path = "/webhooks/{service}/{source}", operation_id = "receiveWebhook", tag = "webhooks",
    params(("service" = String, Path, description = "The tool: `chatwoot`"), ("source" = SourceId, Path)),
    request_body(content = Vec<u8>, content_type = "application/json", description = "As the tool sends it"),
    responses(
        (status = 200, body = Received, description = "Of a batch of CloudEvents: `{items}` with one such for each"),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn receive(
    State(state): State<AppState>,
    charge: Charge,
    ApiPath((service, source)): ApiPath<(String, String)>,
    request: Request,
) -> ProblemResult<Response> {
    let named = Named::find(&state, &charge, &source).await?.of_service(&service);
    accept(&state, &charge, named, request).await
}

/// Receives a webhook of a tool that makes its own paths below the one that it was given: Jitsi's `event_sync_component`.
#[utoipa::path(
    post, path = "/webhooks/{service}/{source}/events/{about}/{event}", operation_id = "receiveWebhookBelow", tag = "webhooks",
    params(
        ("service" = String, Path, description = "The tool: `jitsi`"), ("source" = SourceId, Path),
        ("about" = String, Path, description = "`room`, `occupant`"), ("event" = String, Path, description = "`created`, `joined`, …")
    ),
    request_body(content = Vec<u8>, content_type = "application/json", description = "As the tool sends it"),
    responses((status = 200, body = Received), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn receive_below(
    State(state): State<AppState>,
    charge: Charge,
    ApiPath(path): ApiPath<(String, String, String, String)>,
    request: Request,
) -> ProblemResult<Response> {
    // What happened stands in the body, too.
    let (service, source, ..) = path;
    let named = Named::find(&state, &charge, &source).await?.of_service(&service);
    accept(&state, &charge, named, request).await
}

/// Answers a tool that asks, before it sends anything, whether we are there, and shows the token that we have given it.
#[utoipa::path(
    get, path = "/webhooks/{service}/{source}", operation_id = "answerWebhookChallenge", tag = "webhooks",
    params(("service" = String, Path, description = "The tool: `whatsapp`"), ("source" = SourceId, Path)),
    responses(
        (status = 200, description = "What was asked for", body = String, content_type = "text/plain"),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn challenge(
    State(state): State<AppState>,
    charge: Charge,
    ApiPath((service, source)): ApiPath<(String, String)>,
    request: Request,
) -> ProblemResult<Response> {
    let named = Named::find(&state, &charge, &source).await?.of_service(&service);
    let answer = named.source.as_ref().and_then(|source| {
        let SourceScheme::Shared(scheme) = &source.scheme else { return None };
        let tokens = source.secrets(Purpose::Challenge, state.clock.now());
        scheme.challenge(&tokens, &Sent::of(&request).parts())
    });
    match answer {
        Some(answer) => Ok(answered(answer)),
        None if named.charged => Err(refused()),
        None => Err(charge.for_failure(&state, refused())),
    }
}

/// Consents to being posted to (CloudEvents' HTTP 1.1 Web Hooks, section 4), where the source is of CloudEvents.
#[utoipa::path(
    options, path = "/webhooks/{service}/{source}", operation_id = "consentToWebhooks", tag = "webhooks",
    params(
        ("service" = String, Path), ("source" = SourceId, Path),
        ("WebHook-Request-Origin" = String, Header, description = "Who asks"),
        ("WebHook-Request-Rate" = Option<u32>, Header, description = "How many requests a minute it would like to send")
    ),
    responses(
        (status = 200, description = "Consent", headers(("WebHook-Allowed-Origin" = String), ("WebHook-Allowed-Rate" = u32))),
        (status = "4XX", description = "No consent", body = Problem, content_type = "application/problem+json")
    )
)]
async fn consent(
    State(state): State<AppState>,
    charge: Charge,
    ApiPath((service, source)): ApiPath<(String, String)>,
    request: Request,
) -> ProblemResult<Response> {
    let named = Named::find(&state, &charge, &source).await?.of_service(&service);
    let consent = named.source.as_ref().and_then(|source| {
        let SourceScheme::Shared(scheme) = &source.scheme else { return None };
        scheme.consent(&Sent::of(&request).parts(), sources::per_minute(&state, source))
    });
    let Some(consent) = consent else {
        // The same for a source of another scheme, one that doesn't consent, and none.
        return Err(Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "This can't be done here",
        ));
    };
    let mut response = StatusCode::OK.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
    headers.insert(cloudevents::ALLOWED_ORIGIN, consent.origin);
    if let Some(rate) = consent.rate {
        headers.insert(cloudevents::ALLOWED_RATE, HeaderValue::from(rate));
    }
    Ok(response)
}

/// The same without the source, where exactly one source of that service exists.
#[utoipa::path(
    post, path = "/webhooks/{service}", operation_id = "receiveWebhookFromOnlySource", tag = "webhooks",
    params(("service" = String, Path, description = "The tool: `chatwoot`")),
    request_body(content = Vec<u8>, content_type = "application/json", description = "As the tool sends it"),
    responses((status = 200, body = Received), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn receive_from_only_source(
    State(state): State<AppState>,
    charge: Charge,
    ApiPath(service): ApiPath<String>,
    request: Request,
) -> ProblemResult<Response> {
    let charged = sources::is_strange_service(&state, &service);
    if charged {
        charge.to_address(&state)?;
    }
    let source = sources::only(&state, &service).await.map_err(sources::problem)?;
    accept(&state, &charge, Named { source, charged }, request).await
}

/// Several events that came in one request.
#[derive(Debug, Serialize)]
struct ReceivedBatch {
    items: Vec<Received>,
}

fn answered(answer: Answer) -> Response {
    let mut response = answer.body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What a verified request holds.
enum Verified {
    /// One event, whose body is the request's.
    One(Identified),
    /// Several, each with its own part of the body.
    Batch(Vec<(Identified, Bytes)>),
    /// None: the sender asks whether we are there.
    Question(Answer),
}

fn identified(delivery: Delivery, body: &[u8]) -> Identified {
    let key_hash = delivery.key.hash(body);
    let event_type = store::storable(&delivery.event_type, 100);
    // Where nothing says what an event is about, its kind keeps the order.
    let subject =
        delivery.subject.map_or_else(|| event_type.clone(), |subject| store::storable(&subject, 200));
    Identified {
        event_type,
        subject,
        tenant: None,
        delivery_id: delivery.id.map(|id| store::storable(&id.value, 200)),
        key_hash,
        occurred_at: delivery.time,
        source_uri: delivery.source.map(|source| store::storable(&source, 2_000)),
    }
}

/// The secrets that a scheme verifies with: the source's, or, of a token that the suite's own Keycloak has signed, its keys.
async fn keys(
    state: &AppState,
    source: &Source,
    scheme: &Scheme,
    sent: &Sent,
) -> ProblemResult<Vec<SecretString>> {
    let secrets = source.secrets(Purpose::Signature, state.clock.now());
    if let Scheme::KeycloakJwt(jwt) = scheme.resolved()
        && secrets.is_empty()
        && jwt.issuer == state.issuer
        && let Some(id) = keycloak::key_id(&sent.headers)
    {
        let provider = state.keys.provider_with(&id).await.map_err(|error| Problem::unavailable(&error))?;
        return Ok(vec![provider.raw_keys.to_string().into()]);
    }
    Ok(secrets)
}

/// Why a request isn't taken, or that it can't be verified now.
enum NotVerified {
    Refused(Refused),
    Problem(Problem),
}

async fn verify(
    state: &AppState,
    source: &Source,
    sent: &Sent,
    body: &Bytes,
) -> Result<Verified, NotVerified> {
    let now = state.clock.now();
    let outcome = match &source.scheme {
        SourceScheme::Chatwoot => {
            return chatwoot::accept(source, &sent.headers, body, now).map(Verified::One).map_err(|error| {
                NotVerified::Refused(match error {
                    chatwoot::Refused::Signature(reason) => {
                        tracing::info!(source = %source.id, %reason, "a webhook was refused");
                        Refused::Unproven("Chatwoot's signature")
                    }
                    chatwoot::Refused::Unreadable(error) => {
                        tracing::info!(source = %source.id, error = %ErrorChain(&error), "a webhook could not be read");
                        Refused::Unreadable("not one of Chatwoot's events")
                    }
                })
            });
        }
        // A homeserver posts to paths of its own.
        SourceScheme::Matrix => Err(Refused::Unproven("a homeserver's path")),
        SourceScheme::Shared(scheme) => {
            let keys = keys(state, source, scheme, sent).await.map_err(NotVerified::Problem)?;
            scheme.verify(&keys, &sent.parts(), body, now)
        }
    };
    match outcome.map_err(NotVerified::Refused)? {
        Outcome::Answer(answer) => Ok(Verified::Question(answer)),
        Outcome::Deliveries(mut deliveries) => {
            if let [Delivery { body: None, .. }] = deliveries.as_slice() {
                Ok(Verified::One(identified(deliveries.remove(0), body)))
            } else {
                let of = |delivery: Delivery| {
                    let part = delivery.body.clone().unwrap_or_else(|| body.clone());
                    (identified(delivery, &part), part)
                };
                Ok(Verified::Batch(deliveries.into_iter().map(of).collect()))
            }
        }
    }
}

async fn accept(
    state: &AppState,
    charge: &Charge,
    named: Named,
    mut request: Request,
) -> ProblemResult<Response> {
    let charged = named.charged;
    let unproven = || if charged { refused() } else { charge.for_failure(state, refused()) };
    let sent = Sent::taken_from(&mut request);
    // Read in any case: an unknown source says the same as a known one with a wrong signature, whatever was sent.
    let label = named.source.as_ref().map_or(NO_SOURCE, |source| source.label());
    let body = extract::body(request).await.inspect_err(|problem| {
        let is_too_large = problem.status() == StatusCode::PAYLOAD_TOO_LARGE;
        reject(label, if is_too_large { "too_large" } else { "body" });
    })?;
    let Some(source) = named.source else {
        reject(label, "unknown_source");
        return Err(unproven());
    };
    let verified = match verify(state, &source, &sent, &body).await {
        Ok(verified) => verified,
        Err(NotVerified::Problem(problem)) => {
            reject(label, "unavailable");
            return Err(problem);
        }
        Err(NotVerified::Refused(reason)) => {
            let kind = if matches!(reason, Refused::Unproven(_)) { "signature" } else { "unreadable" };
            reject(label, kind);
            tracing::info!(source = %source.id, %reason, "a webhook was not taken");
            return Err(match reason {
                Refused::Unproven(_) => unproven(),
                Refused::Unreadable(_) => Problem::new(
                    StatusCode::BAD_REQUEST,
                    "webhooks.unreadable",
                    "The body is not one of this service's events",
                ),
                Refused::MediaType => Problem::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "unsupported_media_type",
                    "The body is of a content type that this source doesn't take",
                ),
            });
        }
    };
    // Without those that this scheme makes a secret; what is one anyway isn't kept, whatever the scheme.
    let kept = match &source.scheme {
        SourceScheme::Shared(scheme) => scheme.keepable(&sent.headers),
        SourceScheme::Chatwoot | SourceScheme::Matrix => sent.headers,
    };
    match verified {
        Verified::Question(answer) => Ok(answered(answer)),
        Verified::One(identified) => {
            let received = store_event(state, charge, &source, identified, &kept, &body).await?;
            Ok(Json(received).into_response())
        }
        // All at once and in their order, so that they can share a commit. Where one is refused, the sender repeats them all, and those that
        // were stored are known.
        Verified::Batch(events) => {
            let stored = events.into_iter().map(|(identified, part)| {
                let (source, kept) = (&source, &kept);
                async move { store_event(state, charge, source, identified, kept, &part).await }
            });
            let items = futures::future::join_all(stored).await.into_iter().collect::<ProblemResult<_>>()?;
            Ok(Json(ReceivedBatch { items }).into_response())
        }
    }
}

/// Stores an event; answered when it is durable. Where a request holds several, it is called for each without waiting for the one
/// before: the order of the calls is the order of the events.
async fn store_event(
    state: &AppState,
    charge: &Charge,
    source: &Source,
    identified: Identified,
    headers: &HeaderMap,
    body: &Bytes,
) -> ProblemResult<Received> {
    // Only what is proven to come from the source takes from its quota: nobody else can use it up.
    charge.to(sources::quota(state, source)).inspect_err(|_| reject(source.label(), "limit"))?;
    let received_at = state.clock.now();
    let sealed_request = RawRequest::seal(&state.master_key, &*state.ids, headers, body)
        .map_err(|error| Problem::internal(&error))?;
    let event = Incoming {
        tenant: identified.tenant.unwrap_or(source.tenant),
        source: source.id,
        service: source.service.clone(),
        id: InboxEventId(state.ids.uuid_v7(received_at)),
        received_at,
        subject_key: subject_key(source.id, &identified.subject),
        identified,
        sealed_request,
    };
    let stored = state.intake.accept(event).await.map_err(|error| not_stored(source, error))?;
    let outcome = if stored.duplicate { "duplicate" } else { "accepted" };
    metrics::counter!("chancery_inbox_received_total", "service" => source.label(), "outcome" => outcome)
        .increment(1);
    Ok(Received { id: stored.id, duplicate: stored.duplicate })
}

/// What a sender is told whose event isn't stored, or not surely: to send it again. A repeat finds its key.
fn not_stored(source: &Source, error: NotStored) -> Problem {
    let reason = match error {
        NotStored::Full(full) => full.as_str(),
        NotStored::Unavailable => "unavailable",
        NotStored::Refused => "refused",
    };
    reject(source.label(), reason);
    match error {
        NotStored::Full(_) => Problem::unavailable(&error)
            .named("webhooks.busy", "Too much is waiting to be stored, please try again"),
        NotStored::Unavailable => Problem::unavailable(&error),
        NotStored::Refused => Problem::internal(&error),
    }
}

/// Proves that the homeserver of a source sent the request.
async fn matrix_source(
    state: &AppState,
    charge: &Charge,
    source: &str,
    headers: &HeaderMap,
) -> Result<Arc<Source>, Response> {
    let named = Named::find(state, charge, source).await.map_err(in_matrix_words)?.of_service("matrix");
    let charged = named.charged;
    let forbidden = || {
        let over = if charged { None } else { charge.to_address(state).err() };
        over.map_or_else(
            || {
                let (status, body) = appservice::ErrorBody::forbidden();
                (status, Json(body)).into_response()
            },
            in_matrix_words,
        )
    };
    let Some(source) = named.source else {
        reject(NO_SOURCE, "unknown_source");
        return Err(forbidden());
    };
    let secrets = source.secrets(Purpose::Signature, state.clock.now());
    appservice::verify(headers, &secrets).map_err(|_| {
        reject(source.label(), "signature");
        forbidden()
    })?;
    Ok(source)
}

/// A homeserver knows Matrix's own error for a 429; it repeats what it sent. Other problems are only for the log.
fn in_matrix_words(problem: Problem) -> Response {
    let Some(seconds) = problem.retry_after().filter(|_| problem.status() == StatusCode::TOO_MANY_REQUESTS)
    else {
        return problem.into_response();
    };
    let (status, body) = appservice::ErrorBody::limit_exceeded();
    (status, [(header::RETRY_AFTER, seconds.to_string())], Json(body)).into_response()
}

/// Receives a transaction of the homeserver (Matrix application service API, `PUT /_matrix/app/v1/transactions/{txnId}`).
#[utoipa::path(
    put, path = "/webhooks/matrix/{source}/_matrix/app/v1/transactions/{txnId}", operation_id = "receiveMatrixTransaction", tag = "webhooks",
    params(("source" = SourceId, Path), ("txnId" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/json", description = "As the homeserver sends it"),
    responses((status = 200, description = "`{}`"), (status = "4XX", description = "Matrix's own error body: `{errcode, error}`"))
)]
async fn matrix_transaction(
    State(state): State<AppState>,
    charge: Charge,
    ApiPath((source, transaction)): ApiPath<(String, String)>,
    mut request: Request,
) -> Response {
    let headers = std::mem::take(request.headers_mut());
    let source = match matrix_source(&state, &charge, &source, &headers).await {
        Ok(source) => source,
        Err(response) => return response,
    };
    let body = match extract::body(request).await {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    if appservice::Transaction::parse(&body).is_err() {
        reject(source.label(), "unreadable");
        let (status, body) = appservice::ErrorBody::bad_json();
        return (status, Json(body)).into_response();
    }
    let identified = Identified {
        tenant: None,
        event_type: "transaction".to_owned(),
        subject: "transactions".to_owned(),
        delivery_id: Some(store::storable(&transaction, 200)),
        key_hash: store::key_hash(&[b"transaction", transaction.as_bytes()]),
        occurred_at: None,
        source_uri: None,
    };
    match store_event(&state, &charge, &source, identified, &headers, &body).await {
        Ok(_) => Json(serde_json::json!({})).into_response(),
        Err(problem) => in_matrix_words(problem),
    }
}

/// Answers the homeserver's ping (Matrix application service API, `POST /_matrix/app/v1/ping`).
#[utoipa::path(
    post, path = "/webhooks/matrix/{source}/_matrix/app/v1/ping", operation_id = "receiveMatrixPing", tag = "webhooks",
    params(("source" = SourceId, Path)),
    responses((status = 200, description = "`{}`"), (status = "4XX", description = "Matrix's own error body: `{errcode, error}`"))
)]
async fn matrix_ping(
    State(state): State<AppState>,
    charge: Charge,
    ApiPath(source): ApiPath<String>,
    headers: HeaderMap,
) -> Response {
    match matrix_source(&state, &charge, &source, &headers).await {
        Ok(_) => Json(serde_json::json!({})).into_response(),
        Err(response) => response,
    }
}
