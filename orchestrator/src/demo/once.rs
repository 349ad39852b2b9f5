//! `chancery demo --once`: the main job from beginning to end over HTTP alone, as the people in it would do it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::{
    PEOPLE, Person, Running, STEP_DEADLINE,
    visitor::{EventStream, Visitor},
};

const TENANT: &str = "/organizations/acme-corp";
const POLL: Duration = Duration::from_millis(10);

/// Plays the main job and prints each step.
///
/// # Errors
/// The step that failed, and why.
pub(super) async fn play(running: &Running) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut story = Story { running, steps: 0 };
    story.tell().await?;
    super::say(&format!("{:>9.1} ms  in all", begun.elapsed().as_secs_f64() * 1000.0));
    super::say("main job: ok");
    Ok(())
}

struct Story<'a> {
    running: &'a Running,
    steps: u32,
}

/// What a step has to find in time.
async fn eventually<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        ensure!(begun.elapsed() < STEP_DEADLINE, "{what} did not come within {} s", STEP_DEADLINE.as_secs());
        tokio::time::sleep(POLL).await;
    }
}

fn text(value: &Value, field: &str) -> anyhow::Result<String> {
    value[field].as_str().map(str::to_owned).with_context(|| format!("the answer has no {field}"))
}

impl Story<'_> {
    async fn step<T>(
        &mut self,
        name: &str,
        doing: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        self.steps += 1;
        let begun = Instant::now();
        let result = tokio::time::timeout(STEP_DEADLINE * 2, doing)
            .await
            .unwrap_or_else(|_| Err(anyhow::anyhow!("it took too long")));
        let milliseconds = begun.elapsed().as_secs_f64() * 1000.0;
        match result {
            Ok(value) => {
                super::say(&format!("{milliseconds:>9.1} ms  {:>2}. {name}", self.steps));
                Ok(value)
            }
            Err(error) => {
                super::say(&format!("{milliseconds:>9.1} ms  {:>2}. {name}: FAILED", self.steps));
                Err(error.context(format!("step {} failed: {name}", self.steps)))
            }
        }
    }

    fn person(&self, username: &str) -> anyhow::Result<Visitor> {
        let person: &Person =
            PEOPLE.iter().find(|person| person.username == username).context("there is no such person")?;
        Visitor::new(person, &self.running.addresses, &self.running.state.issuer)
    }

    async fn tell(&mut self) -> anyhow::Result<()> {
        let (mut agent, mut ceo, mut outsider) =
            (self.person("acme-agent")?, self.person("acme-ceo")?, self.person("outsider")?);
        let chatwoot = self.running.addresses.url(self.running.addresses.chatwoot);
        let matrix = self.running.addresses.url(self.running.addresses.matrix);
        let running = self.running;

        let display_id = self
            .step("a customer writes in Chatwoot", async {
                let inbox = running.doubles.chatwoot.inbox_identifier();
                let base = format!("{chatwoot}public/api/v1/inboxes/{inbox}/contacts");
                let contact = agent
                    .post_public(
                        &base,
                        &json!({ "name": "Connie Customer", "email": "connie@customer.example" }),
                    )
                    .await?;
                let conversations = format!("{base}/{}/conversations", text(&contact, "source_id")?);
                let conversation = agent.post_public(&conversations, &json!({})).await?;
                let id = conversation["id"].as_i64().context("the conversation has no number")?;
                agent
                    .post_public(
                        &format!("{conversations}/{id}/messages"),
                        &json!({ "content": "My order came broken, and I want my 1,200 EUR back." }),
                    )
                    .await?;
                Ok(id)
            })
            .await?;

        self.step("the agent signs in with Keycloak", agent.sign_in()).await?;
        let conversation = self
            .step("the signed webhook has made the conversation known", async {
                eventually("the conversation", async || {
                    let page = agent.get("/conversations", &[("tenantId", TENANT)]).await?;
                    let found = page["items"].as_array().into_iter().flatten().find(|one| {
                        one["displayId"] == display_id
                            && one["lastMessage"]
                                .as_str()
                                .is_some_and(|message| message.contains("1,200 EUR"))
                    });
                    found.map(|found| text(found, "id")).transpose()
                })
                .await
            })
            .await?;

        let mut events: EventStream = self
            .step("the CEO signs in, and the shell's event stream is open", async {
                ceo.sign_in().await?;
                let tenant = ceo.tenant(TENANT).await?;
                ceo.events(&tenant).await
            })
            .await?;
        let approval = self
            .step("the agent escalates", async {
                let body = json!({ "reason": "Refund of 1,200 EUR", "priority": "high", "consultationRequested": true });
                let approval = agent.post(&format!("/conversations/{conversation}/escalate"), &body).await?;
                text(&approval, "id")
            })
            .await?;
        self.step(
            "the approval is on the CEO's event stream",
            events.wait_for("approval.created", &approval),
        )
        .await?;

        let body =
            json!({ "status": "approved", "comment": "Refund it, with an apology.", "consultation": true });
        self.step("the CEO is asked to confirm who they are, since it is urgent, and does", async {
            let level = ceo.asked_level(&format!("/approvals/{approval}"), &body).await?;
            ceo.step_up(&level.context("an urgent decision was not asked for a stronger sign-in")?).await
        })
        .await?;
        self.step("the CEO approves, with a consultation", async {
            let approved = ceo.patch(&format!("/approvals/{approval}"), &body).await?;
            ensure!(approved["status"] == "approved", "the approval is not approved");
            Ok(())
        })
        .await?;
        self.step("the decision is on the stream", events.wait_for("approval.decided", &approval)).await?;

        self.step("the audit trail has who asked and who decided", async {
            let page = ceo.get(&format!("/audit/resource/approval/{approval}"), &[]).await?;
            let actions: Vec<&str> = page["items"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|entry| entry["action"].as_str())
                .collect();
            ensure!(
                actions.contains(&"approval.requested") && actions.contains(&"approval.approved"),
                "the trail has only {actions:?}"
            );
            Ok(())
        })
        .await?;

        self.step("the private note is in the conversation", async {
            let url = format!("{chatwoot}api/v1/accounts/1/conversations/{display_id}/messages");
            let token = running.doubles.chatwoot.admin_token();
            let marker = format!("chancery:{approval}:approved");
            eventually("the note", async || {
                let messages = agent.get_chatwoot(&url, &token).await?;
                let note = messages["payload"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .find(|message| message["source_id"] == marker.as_str())
                    .cloned();
                let Some(note) = note else { return Ok(None) };
                ensure!(note["private"] == true, "the note is not private");
                ensure!(
                    note["content"]
                        .as_str()
                        .is_some_and(|content| content.contains("Refund it, with an apology.")),
                    "the note lacks the comment"
                );
                Ok(Some(()))
            })
            .await
        })
        .await?;

        self.step("the notice is in the team's Matrix room", async {
            eventually("the notice", async || {
                ceo.matrix_has(&matrix, &running.state, &approval).await.map(|has| has.then_some(()))
            })
            .await
        })
        .await?;

        let consultation = self
            .step("the CEO starts the consultation, and both join it in Jitsi", async {
                let page = ceo.get("/consultations", &[("tenantId", TENANT)]).await?;
                let found = page["items"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .find(|one| one["approvalId"] == approval.as_str());
                let id = text(found.context("there is no consultation")?, "id")?;
                ceo.post(&format!("/consultations/{id}/start"), &json!({})).await?;
                for person in [&ceo, &agent] {
                    let link = person.post(&format!("/consultations/{id}/join"), &json!({})).await?;
                    person.enter_room(&text(&link, "url")?).await?;
                }
                Ok(id)
            })
            .await?;

        self.step("a stranger gets 404 for each of these", async {
            outsider.sign_in().await?;
            for path in [
                format!("/conversations/{conversation}"),
                format!("/approvals/{approval}"),
                format!("/audit/resource/approval/{approval}"),
                format!("/consultations/{consultation}"),
            ] {
                let status = outsider.status_of(&path).await?;
                ensure!(status == 404, "{path} is {status} for a stranger");
            }
            Ok(())
        })
        .await
    }
}
