//! Check-back: a half message without an end is put before its producers, again and again, until somebody says.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use krocket_config::rules::Live;
use krocket_features::headers::{MAX_DECOMPRESSED, ORIGIN_MESSAGE_ID, PGROUP, REAL_TOPIC, TRAN_MSG};
use krocket_features::{admin, escape};
use krocket_parking::rows::repark;
use krocket_parking::{Check, Due, Entry, Half, Locator, Parking};
use krocket_protocol::records::{BatchBuilder, BatchHeader, Header, LastOffset, Records};
use krocket_stack::{BoxFuture, Handler, LedgerError, Notes, Row};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::layer::end_rows;
use crate::members;

/// How often it was asked, on the copy.
const TRANSACTION_CHECK_TIMES: &str = "TRANSACTION_CHECK_TIMES";
/// A webhook answers within this.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// The due time of a message that is set aside: it has none.
pub(crate) const SET_ASIDE: i64 = i64::MAX;

/// Asks about half messages.
pub struct Checks {
    parking: Arc<Parking>,
    rules: Live,
    next: OnceLock<Arc<dyn Handler>>,
    /// Producer groups whose check topics are there.
    prepared: Mutex<HashSet<String>>,
}

impl Checks {
    /// For what is parked, by these rules.
    pub fn new(parking: Arc<Parking>, rules: Live) -> Arc<Self> {
        Arc::new(Checks { parking, rules, next: OnceLock::new(), prepared: Mutex::default() })
    }

    /// Asks through this handler from now on.
    pub fn start(self: &Arc<Self>, next: Arc<dyn Handler>) {
        let _ = self.next.set(next);
        self.parking.set_check(self.clone());
    }

    /// Has the check topic of a producer group created, so that its producers can subscribe before the first question.
    pub(crate) fn prepare(self: &Arc<Self>, group: String) {
        if !self.prepared.lock().insert(group.clone()) {
            return;
        }
        let checks = self.clone();
        tokio::spawn(async move {
            if let Err(error) = checks.create(&group).await {
                checks.prepared.lock().remove(&group);
                tracing::warn!(%error, group, "no check topic yet");
            }
        });
    }

    async fn create(&self, group: &str) -> Result<String, String> {
        let prefix = self.rules.get().prefixes.check.clone();
        let topic = escape::topic(&prefix, group).ok_or_else(|| format!("{prefix}{group} is too long for a topic"))?;
        let next = self.next.get().ok_or("not started")?;
        if self.parking.ledger().topic(&topic).is_none() {
            admin::create_topic(&**next, &topic, 1).await?;
        }
        Ok(topic)
    }

    async fn ask(&self, due: Due) -> Result<(Vec<Row>, Option<i64>), String> {
        let (half, id) = match (due.entry.half(), self.parking.id(due.at)) {
            (Some(half), Some(id)) => (half.clone(), id),
            _ => return Err("it is no half message any more".to_owned()),
        };
        let live = self.rules.get();
        let rules = live.topic(&id.topic).half.clone().unwrap_or_default();
        let now = self.parking.ledger().now_ms();
        let message = self.message(due.at).await?;
        let counted = match &rules.webhook {
            Some(url) => match webhook(url, &half, &id.to_string(), &id.topic, &message).await {
                Ok(Verdict::Unknown) => true,
                Ok(verdict) => {
                    let commit = verdict == Verdict::Commit;
                    let ended = end_rows(due.at, due.due, &due.entry, commit, None, now);
                    return ended.ok_or_else(|| "it is no half message any more".to_owned());
                }
                Err(error) => {
                    tracing::warn!(%error, url, %id, "the webhook did not answer");
                    false
                }
            },
            None => self.put(&half, &id.to_string(), &id.topic, &message, now).await?,
        };
        let checks = half.checks + u32::from(counted);
        let again = if checks >= rules.max_checks {
            tracing::warn!(%id, checks, "a half message is set aside: nobody said how it ends");
            SET_ASIDE
        } else {
            now.saturating_add(i64::try_from(rules.check_interval.as_millis()).unwrap_or(i64::MAX))
        };
        let entry = with_checks(&due.entry, checks);
        Ok((repark(due.at, due.due, again, &entry).to_vec(), Some(again).filter(|again| *again != SET_ASIDE)))
    }

    /// Puts a copy into the check topic. True when somebody could have read it.
    async fn put(&self, half: &Half, id: &str, topic: &str, message: &Message, now: i64) -> Result<bool, String> {
        let check = self.create(&half.group).await?;
        let next = self.next.get().ok_or("not started")?;
        let somebody = members::reads(&**next, &check).await.map_err(|error| error.to_string())?;
        let times = (half.checks + 1).to_string();
        let added =
            [(ORIGIN_MESSAGE_ID, id), (PGROUP, &half.group), (REAL_TOPIC, topic), (TRANSACTION_CHECK_TIMES, &times)];
        let own = message.headers.iter().filter(|(name, _)| {
            *name != TRAN_MSG.as_bytes() && !added.iter().any(|(added, _)| added.as_bytes() == name)
        });
        let headers: Vec<Header<'_>> = own
            .map(|(key, value)| Header { key, value: value.as_deref() })
            .chain(added.iter().map(|(key, value)| Header { key: key.as_bytes(), value: Some(value.as_bytes()) }))
            .collect();
        let mut batch = BatchBuilder::new(0, now);
        batch.push(0, now, message.key.as_deref(), message.value.as_deref(), &headers);
        let batch = batch.finish(LastOffset::Trim).map_err(|error| error.to_string())?.ok_or("no record")?;
        admin::produce(&**next, (&check, 0), batch, Notes::default(), false).await?;
        Ok(somebody)
    }

    async fn message(&self, at: Locator) -> Result<Message, String> {
        let ledger = self.parking.ledger().clone();
        let read = tokio::task::spawn_blocking(move || {
            let stored = ledger.batches(at.0, at.1, 1)?.into_iter().next();
            let stored = stored.ok_or_else(|| LedgerError("its bytes are gone".to_owned()))?;
            let unreadable = |error: String| LedgerError(error);
            let header = BatchHeader::read(&stored.batch).map_err(|error| unreadable(error.to_string()))?;
            let records = Records::open(&stored.batch, &header, MAX_DECOMPRESSED)
                .map_err(|error| unreadable(error.to_string()))?;
            let record = records.iter().map_while(Result::ok).find(|record| record.offset == at.1);
            let record = record.ok_or_else(|| LedgerError("its bytes are gone".to_owned()))?;
            let headers = record.headers().map_while(Result::ok);
            Ok::<_, LedgerError>(Message {
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: headers.map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec))).collect(),
            })
        });
        read.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }
}

impl Check for Checks {
    fn check<'a>(&'a self, due: Due) -> BoxFuture<'a, Option<(Vec<Row>, Option<i64>)>> {
        Box::pin(async move {
            let at = due.at;
            match self.ask(due).await {
                Ok(change) => Some(change),
                Err(error) => {
                    tracing::warn!(%error, partition = at.0, offset = at.1, "a half message could not be asked about");
                    None
                }
            }
        })
    }
}

/// The same entry, asked about so often.
pub(crate) fn with_checks(entry: &Entry, checks: u32) -> Entry {
    let mut entry = entry.clone();
    if let Some(half) = entry.more.as_mut().and_then(|more| more.half.as_mut()) {
        half.checks = checks;
    }
    entry
}

/// What is asked about.
struct Message {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// What a webhook is sent.
#[derive(Serialize)]
struct Question<'a> {
    id: &'a str,
    topic: &'a str,
    producer_group: &'a str,
    /// Which time it is asked, from 1.
    check: u32,
    /// Text; what is not UTF-8 is replaced.
    key: Option<String>,
    value: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Verdict {
    Commit,
    Rollback,
    Unknown,
}

/// What it answers.
#[derive(Deserialize)]
struct Answer {
    end: Verdict,
}

async fn webhook(url: &str, half: &Half, id: &str, topic: &str, message: &Message) -> Result<Verdict, String> {
    let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let (key, value) = (text(&message.key), text(&message.value));
    let question = Question { id, topic, producer_group: &half.group, check: half.checks + 1, key, value };
    let body = serde_json::to_vec(&question).map_err(|error| error.to_string())?;
    let url = url.to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let agent =
            ureq::Agent::new_with_config(ureq::Agent::config_builder().timeout_global(Some(WEBHOOK_TIMEOUT)).build());
        let answer = agent.post(&url).header("content-type", "application/json").send(&body[..]);
        let answer =
            answer.map_err(|error| error.to_string())?.body_mut().read_to_vec().map_err(|error| error.to_string())?;
        serde_json::from_slice::<Answer>(&answer)
            .map_err(|error| format!("not {{\"end\": \"COMMIT|ROLLBACK|UNKNOWN\"}}: {error}"))
    });
    Ok(asked.await.map_err(|error| error.to_string())??.end)
}
