//! What REST asks of webhooks: make, look at, disable, enable, delete.

use std::{sync::Arc, time::Duration};

use callboard_core::lease::Ordering;
use callboard_protocol::{ErrorCode, GroupMode, GroupName, Timestamp, error::Refusal, time::format_rfc3339};
use serde::Serialize;

use super::{internal, topic_or_new};
use crate::{
    actors::{
        Shared,
        announce::Event,
        broker::{GetGroup, GroupWish, StartWebhook, Want},
        clock,
        partition::refusal,
        push::{check_url, sign::Secret},
        webhook::{
            announce_disabled,
            mailbox::{DisabledNow, Enabled, End, Retire},
            registry::{AnswerNote, WebhookRef},
            settings::{
                BodyFormat, CONCURRENCY, CONCURRENCY_MAX, Disabled, TIMEOUT_MS, TIMEOUT_MS_RANGE,
                WEBHOOKS_MAX, WebhookSettings,
            },
        },
    },
    store::{Completion, StoreError},
};

/// When the broker ends, calls that are under way have this long to end as well.
const RETIRE_TIME: Duration = Duration::from_millis(1_500);
/// What a webhook says that was disabled over REST.
const BY_REQUEST: &str = "requested";

/// What is asked for; what is not said has its default.
#[derive(Clone, Debug, Default)]
pub struct NewWebhook {
    /// Whose records; made if need be.
    pub topic: String,
    /// As a member of which group; made if need be, shared.
    pub group: String,
    /// Where they go.
    pub url: String,
    /// What calls are signed with; made if it is not given.
    pub secret: Option<String>,
    /// Calls at once.
    pub concurrency: Option<u64>,
    /// How long a call may take.
    pub timeout_ms: Option<u64>,
    /// What a call's body is.
    pub format: Option<String>,
}

/// A webhook as REST shows it.
#[derive(Clone, Debug, Serialize)]
pub struct WebhookInfo {
    /// Its id.
    pub id: String,
    /// Whose records.
    pub topic: String,
    /// As a member of which group.
    pub group: String,
    /// Where they go.
    pub url: String,
    /// What a call's body is.
    pub format: &'static str,
    /// Calls at once.
    pub concurrency: u32,
    /// How long a call may take.
    pub timeout_ms: u64,
    /// `active`, `paused` or `disabled`.
    pub state: &'static str,
    /// Why it calls nobody any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled_reason: Option<String>,
    /// Since when; RFC 3339, as all times here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled_at: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// Calls that succeeded since the broker started.
    pub succeeded: u64,
    /// Calls that failed since the broker started.
    pub failed: u64,
    /// Failures since the last success.
    pub consecutive_failures: u32,
    /// Calls under way.
    pub in_flight: u64,
    /// Until when it gets no calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<String>,
    /// How the last calls ended, newest first.
    pub answers: Vec<AnswerInfo>,
    /// Only where it was just made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// How one call ended.
#[derive(Clone, Debug, Serialize)]
pub struct AnswerInfo {
    /// When.
    pub at: String,
    /// The status, if one came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What went wrong otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How long it took.
    pub duration_ms: u64,
    /// The partition of the record that it was about.
    pub partition: u32,
    /// And its offset.
    pub offset: u64,
    /// How often that had been handed out.
    pub attempt: u32,
}

impl From<&AnswerNote> for AnswerInfo {
    fn from(note: &AnswerNote) -> Self {
        let (partition, offset) = note.place;
        Self {
            at: format_rfc3339(note.at),
            status: note.status,
            error: note.error.clone(),
            duration_ms: note.duration_ms,
            partition: partition.0,
            offset: offset.0,
            attempt: note.attempt,
        }
    }
}

/// Describes a webhook as it is now.
pub fn describe(webhook: &WebhookRef) -> WebhookInfo {
    let status = webhook.status().clone();
    let settings = &webhook.settings;
    let text = |at: Timestamp| format_rfc3339(at);
    WebhookInfo {
        id: webhook.id.clone(),
        topic: settings.topic.to_string(),
        group: settings.group.to_string(),
        url: settings.url.clone(),
        format: settings.format.as_str(),
        concurrency: settings.concurrency,
        timeout_ms: settings.timeout_ms,
        state: match &status.disabled {
            Some(_) => "disabled",
            None if status.is_paused => "paused",
            None => "active",
        },
        retry_at: status.retry_at.filter(|_| status.disabled.is_none()).map(text),
        disabled_at: status.disabled.as_ref().map(|disabled| text(disabled.at)),
        disabled_reason: status.disabled.map(|disabled| disabled.reason),
        created_at: text(webhook.created_at),
        succeeded: status.succeeded,
        failed: status.failed,
        consecutive_failures: status.failures,
        in_flight: status.in_flight,
        answers: status.answers.iter().map(AnswerInfo::from).collect(),
        secret: None,
    }
}

/// Every webhook, oldest first.
pub fn list(shared: &Shared) -> Vec<WebhookInfo> {
    let all = shared.webhooks.all();
    all.iter().map(|webhook| describe(webhook)).collect()
}

/// Makes a webhook, and its topic and its group if need be; only here its secret is shown.
///
/// # Errors
/// `invalid_argument`, `forbidden` for a URL that is not public, `conflict` for a group that is not shared,
/// `topic_not_found`, `storage_failed`, `overloaded` while the broker starts.
pub async fn create(shared: &Arc<Shared>, wish: NewWebhook) -> Result<WebhookInfo, Refusal> {
    let settings = check(shared, &wish)?;
    let shared = shared.clone();
    see_through(async move { make(&shared, settings).await }).await
}

/// Goes on with a change when whoever asked for it has gone: half of one is a webhook that calls although it was
/// disabled, or one that nobody sees before the next start.
async fn see_through<T: 'static>(
    change: impl Future<Output = Result<T, Refusal>> + 'static,
) -> Result<T, Refusal> {
    let changed = actix_rt::spawn(change).await;
    changed.unwrap_or_else(|_| Err(Refusal::new(ErrorCode::Internal, "the change failed")))
}

async fn make(shared: &Shared, settings: WebhookSettings) -> Result<WebhookInfo, Refusal> {
    make_group(shared, &settings).await?;
    // Ids rise with time, so that the oldest stands first.
    let id = format!("wh_{}", uuid::Uuid::now_v7().simple());
    let webhook = Arc::new(WebhookRef::new(id, settings, clock::now(), None));
    kept(webhook.keep(&*shared.store, |_| {})).await?;
    shared.webhooks.insert(webhook.clone());
    shared.broker().do_send(StartWebhook(webhook.clone()));
    shared.announce(Event::WebhookCreated {
        webhook: webhook.id.clone(),
        topic: webhook.settings.topic.to_string(),
        group: webhook.settings.group.to_string(),
        url: webhook.settings.url.clone(),
    });
    Ok(WebhookInfo {
        secret: Some(webhook.settings.secret.text().to_owned()),
        ..describe(&webhook)
    })
}

fn check(shared: &Shared, wish: &NewWebhook) -> Result<WebhookSettings, Refusal> {
    let invalid = |message: String| Refusal::new(ErrorCode::InvalidArgument, message);
    if shared.is_shutting_down() {
        let message = "the broker is shutting down";
        return Err(Refusal::new(ErrorCode::ShuttingDown, message));
    }
    if !shared.is_ready() {
        // Those that are kept are started then, and one that is made meanwhile would be started twice.
        return Err(Refusal::new(ErrorCode::Overloaded, "the broker is starting"));
    }
    if shared.webhooks.count() >= WEBHOOKS_MAX {
        return Err(invalid(format!("a broker has at most {WEBHOOKS_MAX} webhooks")));
    }
    let concurrency = wish.concurrency.unwrap_or(CONCURRENCY.into());
    if !(1..=u64::from(CONCURRENCY_MAX)).contains(&concurrency) {
        return Err(invalid(format!("concurrency is 1 to {CONCURRENCY_MAX}")));
    }
    let timeout_ms = wish.timeout_ms.unwrap_or(TIMEOUT_MS);
    if !TIMEOUT_MS_RANGE.contains(&timeout_ms) {
        let (least, most) = (TIMEOUT_MS_RANGE.start(), TIMEOUT_MS_RANGE.end());
        return Err(invalid(format!("timeout_ms is {least} to {most}")));
    }
    let format = match wish.format.as_deref() {
        None => BodyFormat::default(),
        Some(text) => BodyFormat::parse(text).ok_or_else(|| {
            let names = BodyFormat::ALL.map(BodyFormat::as_str).join(", ");
            invalid(format!("format is one of {names}"))
        })?,
    };
    Ok(WebhookSettings {
        topic: callboard_protocol::client::topic_name(&wish.topic)?,
        group: GroupName::parse(&wish.group).map_err(|error| invalid(format!("group: {error}")))?,
        url: check_url(&wish.url, shared.push().allow_private())?.into(),
        secret: match &wish.secret {
            Some(text) => Secret::parse(text)?,
            None => Secret::generate()?,
        },
        concurrency: concurrency as u32,
        timeout_ms,
        format,
    })
}

/// Sees to it that the webhook's topic and group are there.
async fn make_group(shared: &Shared, settings: &WebhookSettings) -> Result<(), Refusal> {
    let topic = topic_or_new(shared, settings.topic.as_str(), Want::Auto).await?;
    let asked = shared.broker().send(GetGroup {
        topic: topic.name.clone(),
        name: settings.group.clone(),
        wish: GroupWish {
            mode: Some(GroupMode::Shared),
            ordering: Ordering::BestEffort,
        },
    });
    asked.await.map_err(internal)??;
    Ok(())
}

async fn kept(keeping: Completion<()>) -> Result<(), Refusal> {
    let kept = keeping.await.unwrap_or(Err(StoreError::ShuttingDown));
    kept.map_err(|error| refusal(&error))
}

/// Forgets a webhook; what it was about to send goes back to its group.
///
/// # Errors
/// `storage_failed`.
pub async fn delete(shared: &Arc<Shared>, webhook: &Arc<WebhookRef>) -> Result<(), Refusal> {
    let (shared, webhook) = (shared.clone(), webhook.clone());
    see_through(async move { forget(&shared, &webhook).await }).await
}

async fn forget(shared: &Shared, webhook: &Arc<WebhookRef>) -> Result<(), Refusal> {
    let _turn = webhook.changing.lock().await;
    let forgotten = kept(webhook.keep(&*shared.store, |status| status.is_deleted = true)).await;
    if forgotten.is_err() {
        webhook.status().is_deleted = false;
        return forgotten;
    }
    if shared.webhooks.remove(&webhook.id).is_some() {
        webhook.tell(End);
        shared.announce(Event::WebhookDeleted {
            webhook: webhook.id.clone(),
            topic: webhook.settings.topic.to_string(),
            group: webhook.settings.group.to_string(),
        });
    }
    Ok(())
}

/// Lets a webhook call nobody any more; calls under way end as they do.
///
/// # Errors
/// `storage_failed`.
pub async fn disable(shared: &Arc<Shared>, webhook: &Arc<WebhookRef>) -> Result<WebhookInfo, Refusal> {
    let (shared, webhook) = (shared.clone(), webhook.clone());
    see_through(async move { stop(&shared, &webhook).await }).await
}

async fn stop(shared: &Shared, webhook: &Arc<WebhookRef>) -> Result<WebhookInfo, Refusal> {
    let _turn = webhook.changing.lock().await;
    let disabled = Disabled {
        reason: BY_REQUEST.to_owned(),
        at: clock::now(),
    };
    if change(shared, webhook, Some(disabled)).await? {
        webhook.tell(DisabledNow);
        announce_disabled(shared, webhook, BY_REQUEST);
    }
    Ok(describe(webhook))
}

/// Sets a disabled webhook going again, and makes its topic and its group if they are gone.
///
/// # Errors
/// As [`create`].
pub async fn enable(shared: &Arc<Shared>, webhook: &Arc<WebhookRef>) -> Result<WebhookInfo, Refusal> {
    let (shared, webhook) = (shared.clone(), webhook.clone());
    see_through(async move { set_going(&shared, &webhook).await }).await
}

async fn set_going(shared: &Shared, webhook: &Arc<WebhookRef>) -> Result<WebhookInfo, Refusal> {
    let _turn = webhook.changing.lock().await;
    check_url(&webhook.settings.url, shared.push().allow_private())?;
    make_group(shared, &webhook.settings).await?;
    if change(shared, webhook, None).await? {
        // Its actor begins anew as well, but the answer is made before that.
        webhook.status().forget_failures();
        webhook.tell(Enabled);
        shared.announce(Event::WebhookEnabled {
            webhook: webhook.id.clone(),
            topic: webhook.settings.topic.to_string(),
            group: webhook.settings.group.to_string(),
            url: webhook.settings.url.clone(),
        });
    }
    Ok(describe(webhook))
}

/// Changes whether a webhook is disabled, and keeps that; whether it made a difference.
async fn change(shared: &Shared, webhook: &WebhookRef, wanted: Option<Disabled>) -> Result<bool, Refusal> {
    let former = webhook.status().disabled.clone();
    if former.is_some() == wanted.is_some() {
        return Ok(false);
    }
    let changed = kept(webhook.keep(&*shared.store, |status| status.disabled = wanted)).await;
    if changed.is_err() {
        webhook.status().disabled = former;
    }
    changed.map(|()| true)
}

/// The broker ends: calls that are under way may end for a moment, and the others go back to their groups.
pub async fn retire(shared: &Shared) {
    let all = shared.webhooks.all();
    let retired = all
        .iter()
        .filter_map(|webhook| Some(webhook.addr()?.send(Retire)));
    let ended = tokio::time::timeout(RETIRE_TIME, futures_util::future::join_all(retired)).await;
    if ended.is_err() {
        log::info!("calls of webhooks are cut off; their records are sent again after the next start");
    }
    for webhook in all {
        webhook.tell(End);
    }
}
