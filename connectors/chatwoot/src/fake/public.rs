//! The customer's API, `/public/api/v1/inboxes/{inbox_identifier}`: what a program uses to be a customer. There is no
//! token: whoever knows the inbox' identifier and the contact's source id is that contact.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State as Extract},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use super::{
    API_INBOX_ID, FakeChatwoot, payload,
    rest::{ApiError, nested, object, string},
    state::{Contact, Conversation, Direction, NewContact, NewMessage, Person, State},
};

type Fake = Extract<Arc<FakeChatwoot>>;
type Answer = Result<Response, ApiError>;

pub(super) fn router() -> Router<Arc<FakeChatwoot>> {
    let inbox = "/public/api/v1/inboxes/{inbox}";
    let contact = "/public/api/v1/inboxes/{inbox}/contacts/{contact}";
    Router::new()
        .route(inbox, get(show_inbox))
        .route(&format!("{inbox}/contacts"), post(create_contact))
        .route(contact, get(show_contact))
        .route(&format!("{contact}/conversations"), get(list_conversations).post(create_conversation))
        .route(&format!("{contact}/conversations/{{conversation}}"), get(show_conversation))
        .route(
            &format!("{contact}/conversations/{{conversation}}/messages"),
            get(list_messages).post(create_message),
        )
}

fn contact<'a>(state: &'a State, inbox: &str, source_id: &str) -> Result<&'a Contact, ApiError> {
    if state.inbox_identifier != inbox {
        return Err(ApiError::NotFound);
    }
    state
        .contacts
        .values()
        .find(|contact| contact.inbox_id == API_INBOX_ID && contact.source_id == source_id)
        .ok_or(ApiError::NotFound)
}

fn conversation<'a>(
    state: &'a State,
    inbox: &str,
    source_id: &str,
    id: i64,
) -> Result<&'a Conversation, ApiError> {
    let contact = contact(state, inbox, source_id)?;
    state
        .conversations
        .get(&id)
        .filter(|conversation| conversation.contact_id == contact.id)
        .ok_or(ApiError::NotFound)
}

async fn show_inbox(Extract(fake): Fake, Path(inbox): Path<String>) -> Answer {
    if fake.inbox_identifier() != inbox {
        return Err(ApiError::NotFound);
    }
    Ok(Json(json!({
        "identifier": inbox,
        "name": payload::inbox_name(API_INBOX_ID),
        "timezone": "UTC",
        "working_hours": [],
        "working_hours_enabled": false,
        "csat_survey_enabled": false,
        "greeting_enabled": false,
        "identity_validation_enabled": false,
    }))
    .into_response())
}

async fn create_contact(Extract(fake): Fake, Path(inbox): Path<String>, body: Bytes) -> Answer {
    if fake.inbox_identifier() != inbox {
        return Err(ApiError::NotFound);
    }
    let body = object(&body)?;
    let new = NewContact {
        name: string(&body, "name").unwrap_or_default(),
        email: string(&body, "email").map(|email| email.to_lowercase()),
        phone_number: string(&body, "phone_number"),
        identifier: string(&body, "identifier"),
        custom_attributes: nested(&body, "custom_attributes"),
        source_id: string(&body, "source_id").filter(|id| !id.is_empty()).unwrap_or_else(|| fake.uuid()),
        pubsub_token: fake.token(),
    };
    let answer = fake.change(|state, now| {
        if let Ok(known) = contact(state, &inbox, &new.source_id) {
            return Some(payload::contact_public(known));
        }
        let id = state.create_contact(API_INBOX_ID, new, now);
        state.contacts.get(&id).map(payload::contact_public)
    })?;
    Ok(Json(answer).into_response())
}

async fn show_contact(Extract(fake): Fake, Path((inbox, source_id)): Path<(String, String)>) -> Answer {
    fake.read(|state| Ok(Json(payload::contact_public(contact(state, &inbox, &source_id)?)).into_response()))
}

async fn list_conversations(Extract(fake): Fake, Path((inbox, source_id)): Path<(String, String)>) -> Answer {
    fake.read(|state| {
        let contact = contact(state, &inbox, &source_id)?;
        let conversations: Vec<Value> = state
            .conversations
            .values()
            .filter(|conversation| conversation.contact_id == contact.id)
            .map(|conversation| payload::conversation_public(state, conversation))
            .collect();
        Ok(Json(conversations).into_response())
    })
}

async fn create_conversation(
    Extract(fake): Fake,
    Path((inbox, source_id)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let attributes = nested(&object(&body)?, "custom_attributes");
    let contact_id = fake.read(|state| contact(state, &inbox, &source_id).map(|contact| contact.id))?;
    let uuid = fake.uuid();
    let answer = fake.change(|state, now| {
        let id =
            state.create_conversation(contact_id, uuid, attributes, None, now).ok_or(ApiError::NotFound)?;
        let conversation = state.conversations.get(&id).ok_or(ApiError::NotFound)?;
        Ok::<_, ApiError>(payload::conversation_public(state, conversation))
    })??;
    Ok(Json(answer).into_response())
}

async fn show_conversation(
    Extract(fake): Fake,
    Path((inbox, source_id, id)): Path<(String, String, i64)>,
) -> Answer {
    fake.read(|state| {
        let conversation = conversation(state, &inbox, &source_id, id)?;
        Ok(Json(payload::conversation_public(state, conversation)).into_response())
    })
}

async fn list_messages(
    Extract(fake): Fake,
    Path((inbox, source_id, id)): Path<(String, String, i64)>,
) -> Answer {
    fake.read(|state| {
        let conversation = conversation(state, &inbox, &source_id, id)?;
        Ok(Json(payload::public_messages(state, conversation)).into_response())
    })
}

async fn create_message(
    Extract(fake): Fake,
    Path((inbox, source_id, id)): Path<(String, String, i64)>,
    body: Bytes,
) -> Answer {
    let body = object(&body)?;
    let contact_id = fake.read(|state| {
        conversation(state, &inbox, &source_id, id).map(|conversation| conversation.contact_id)
    })?;
    let mut new = NewMessage::text(Direction::Incoming, Some(Person::Contact(contact_id)), String::new());
    new.content = string(&body, "content");
    let answer = fake.change(|state, now| {
        let message_id = state.create_message(id, new, now).map_err(ApiError::Unprocessable)?;
        let conversation = state.conversations.get(&id).ok_or(ApiError::NotFound)?;
        let message = conversation.messages.iter().find(|message| message.id == message_id);
        Ok::<_, ApiError>(payload::message_public(state, conversation, message.ok_or(ApiError::NotFound)?))
    })??;
    Ok(Json(answer).into_response())
}
