use super::{
    AttemptRow, DeliveryPage, DeliveryRow, DeliveryState, EndpointFormPage, EndpointPage, EndpointRow,
    EndpointState, EndpointsPage, EventChoice, EventGroup, FieldErrors, Flash, MARKUP, Samples,
};

const ENDPOINT: &str = "01981f3d-2c44-7b10-8a5e-0d6f1b9c7e33";
const DELIVERY: &str = "01981f3e-77aa-7c02-9b1d-5e2a8f4c6d11";
const URL: &str = "https://n8n.example.org/webhook/4f0c1b7e-approvals";
const BODY: &str = r#"{
  "type": "approval.created",
  "timestamp": "2026-10-14T17:46:40Z",
  "data": {
    "id": "01981f3a-7c1d-7a52-9d3e-4b6f8a2c1e90",
    "tenantId": "0b8f7c1e-6d2a-4a57-9c3e-5f1d2b7a9e10"
  }
}"#;

impl Samples {
    pub(super) fn endpoints(&self) -> EndpointsPage {
        let row =
            |url: &str, description: &str, state, event_types: &[&str], succeeded: Option<i64>| EndpointRow {
                id: format!("{ENDPOINT}-{}", url.len()),
                url: url.into(),
                description: description.into(),
                state,
                event_types: event_types.iter().map(ToString::to_string).collect(),
                succeeded: succeeded.map(|minutes| self.ago(minutes)),
            };
        let long = format!("https://hooks.example.org/{}", "very-long-path/".repeat(16));
        EndpointsPage {
            chrome: self.chrome("endpoints"),
            endpoints: vec![
                row(URL, "n8n: tell the finance team", EndpointState::Active, &["approval.*"], Some(3)),
                row(
                    &long,
                    MARKUP,
                    EndpointState::Failing,
                    &["consultation.started", "consultation.ended"],
                    Some(3_000),
                ),
                row("https://old.example.org/", "", EndpointState::Disabled, &["*"], None),
            ],
            may_manage: true,
        }
    }

    pub(super) fn endpoints_empty(&self) -> EndpointsPage {
        EndpointsPage { endpoints: Vec::new(), ..self.endpoints() }
    }

    pub(super) fn endpoint(&self, state: EndpointState) -> EndpointPage {
        let is_off = state == EndpointState::Disabled;
        let delivery = |number: u32, event_type: &str, state, attempts, outcome: &str| DeliveryRow {
            id: format!("{DELIVERY}-{number}"),
            event_type: event_type.into(),
            state,
            attempts,
            outcome: (attempts > 0).then(|| self.ui.t(format!("delivery-outcome-{outcome}"))),
            created: self.ago(i64::from(number) * 7),
            next: (state == DeliveryState::Pending && !is_off).then(|| self.ago(-2)),
        };
        EndpointPage {
            chrome: self.chrome("endpoints"),
            id: ENDPOINT.into(),
            url: URL.into(),
            description: "n8n: tell the finance team".into(),
            state,
            because: is_off.then(|| self.ui.t("endpoint-because-failing")),
            disabled: is_off.then(|| self.ago(30)),
            failing: (state != EndpointState::Active).then(|| self.ago(9_000)),
            succeeded: Some(self.ago(3)),
            created: self.ago(90_000),
            event_types: vec!["approval.*".into(), "consultation.started".into()],
            rotating: None,
            secret: None,
            version: 3,
            filter: None,
            deliveries: vec![
                delivery(1, "approval.created", DeliveryState::Pending, 0, ""),
                delivery(2, "approval.decided", DeliveryState::Pending, 3, "timeout"),
                delivery(3, "consultation.started", DeliveryState::Delivered, 1, "delivered"),
                delivery(4, "approval.expired", DeliveryState::Failed, 6, "status"),
                delivery(5, "endpoint.test", DeliveryState::Delivered, 1, "delivered"),
            ],
            older_href: Some("endpoint.html?cursor=x".into()),
            newest_href: None,
            may_manage: true,
        }
    }

    pub(super) fn endpoint_new_secret(&self) -> EndpointPage {
        EndpointPage {
            secret: Some("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDazfgR5qE4ao=".into()),
            rotating: Some(self.ago(-1_400)),
            ..self.endpoint(EndpointState::Active)
        }
    }

    pub(super) fn endpoint_empty(&self) -> EndpointPage {
        let mut chrome = self.chrome("endpoints");
        chrome.flash = Flash::from_code(&self.ui, "endpoint-saved");
        EndpointPage {
            chrome,
            deliveries: Vec::new(),
            older_href: None,
            succeeded: None,
            filter: Some(DeliveryState::Failed),
            ..self.endpoint(EndpointState::Active)
        }
    }

    pub(super) fn endpoint_form(&self) -> EndpointFormPage {
        let choice = |value: &str, chosen| EventChoice {
            value: value.into(),
            label: self.ui.event_type(value),
            chosen,
        };
        let group = |kind: &str, types: &[&str]| EventGroup {
            all: choice(&format!("{kind}.*"), false),
            types: types
                .iter()
                .map(|event| choice(&format!("{kind}.{event}"), *event == "created"))
                .collect(),
        };
        EndpointFormPage {
            chrome: self.chrome("endpoints"),
            endpoint: Some((ENDPOINT.into(), 3)),
            url: URL.into(),
            description: "n8n: tell the finance team".into(),
            everything: false,
            groups: vec![
                group("approval", &["created", "decided", "cancelled", "expired"]),
                group("conversation", &["updated"]),
                group("consultation", &["created", "started", "ended", "cancelled"]),
                group("settings", &["updated"]),
                group("endpoint", &["created", "updated", "disabled", "deleted"]),
            ],
            errors: FieldErrors::default(),
        }
    }

    pub(super) fn endpoint_form_errors(&self) -> EndpointFormPage {
        EndpointFormPage {
            endpoint: None,
            url: "http://localhost/".into(),
            description: MARKUP.into(),
            errors: FieldErrors::default()
                .with("url", self.ui.t("error-url-inside"))
                .with("event_types", self.ui.t("error-no-event")),
            ..self.endpoint_form()
        }
    }

    pub(super) fn delivery(&self) -> DeliveryPage {
        let attempt = |number, minutes, outcome: &str, took: &str| AttemptRow {
            number,
            at: self.ago(minutes),
            outcome: self.ui.t(format!("delivery-outcome-{outcome}")),
            took: took.into(),
        };
        DeliveryPage {
            chrome: self.chrome("endpoints"),
            id: DELIVERY.into(),
            endpoint_id: ENDPOINT.into(),
            url: URL.into(),
            event_type: "approval.created".into(),
            message_id: "evt_5f2b7e0c9a7d5c0e8f1a2b3c4d5e6f70".into(),
            state: DeliveryState::Delivered,
            created: self.ago(40),
            next: None,
            finished: Some(self.ago(3)),
            body: BODY.into(),
            attempts: vec![
                attempt(1, 40, "connection", "12 ms"),
                attempt(2, 40, "interrupted", ""),
                attempt(3, 39, "timeout", "15000 ms"),
                attempt(4, 3, "delivered", "84 ms"),
            ],
            may_redeliver: true,
        }
    }

    pub(super) fn delivery_pending(&self) -> DeliveryPage {
        DeliveryPage {
            state: DeliveryState::Pending,
            attempts: Vec::new(),
            next: Some(self.ago(-1)),
            finished: None,
            may_redeliver: false,
            ..self.delivery()
        }
    }
}
