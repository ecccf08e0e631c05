//! A connection that receives: one consumer per topic and partition, and what is not acknowledged yet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use apache_avro::Schema;
use futures_util::FutureExt as _;
use futures_util::future::{join_all, try_join_all};
use futures_util::stream::{self, StreamExt as _};
use kernel::Result;
use pulsar::consumer::InitialPosition;
use pulsar::error::{ConnectionError, ConsumerError};
use pulsar::proto::schema;
use pulsar::{Consumer, ConsumerOptions, SubType, TokioExecutor};
use tokio::time::timeout;

use crate::faults;
use crate::inbound::{Inbound, whole_topic};
use crate::link::Link;
use crate::options::Options;
use crate::topics;
use crate::unreadable::Unreadable;

/// Leaving takes no longer than this, so often.
const FLUSH_LIMIT: Duration = Duration::from_millis(500);
const FLUSHES: usize = 6;
const FLUSHED_AT_ONCE: usize = 4_096;

type Consumers = Vec<Consumer<Vec<u8>, TokioExecutor>>;

/// How to subscribe.
pub(crate) struct Subscribing<'a> {
    pub(crate) name: &'a str,
    pub(crate) from_the_beginning: bool,
    pub(crate) queue: usize,
}

pub(crate) struct Receiver {
    /// Before the link: it goes first.
    consumers: Consumers,
    /// Batches of other publishers of which not every message is done: the driver acknowledges a batch as a whole, so it
    /// must not be told before the last one.
    batches: BTreeMap<(u64, u64), BTreeSet<i32>>,
    /// By topic and version; none: what is written with it is not Avro.
    schemas: BTreeMap<(String, Vec<u8>), Option<Schema>>,
    /// What the driver could not unpack.
    pub(crate) unreadable: Unreadable,
    pub(crate) link: Link,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _inside = self.link.enter();
        self.consumers.clear();
    }
}

impl Receiver {
    pub(crate) fn open(options: &Options, topics: &[String], how: &Subscribing<'_>) -> Result<Self> {
        let link = Link::open(options)?;
        let client = link.client();
        let partitions = link.wait(options, "asking for partitions", async {
            let found = try_join_all(topics.iter().map(|topic| client.lookup_partitioned_topic(topic))).await?;
            Ok(found.into_iter().flatten().map(|(name, _)| name).collect::<BTreeSet<String>>())
        })?;
        // One consumer each, because the driver's own consumer of many topics goes on without those that ended.
        let building = partitions.into_iter().map(|topic| {
            let position = if how.from_the_beginning { InitialPosition::Earliest } else { InitialPosition::Latest };
            let queue = u32::try_from(how.queue).unwrap_or(u32::MAX);
            let options = ConsumerOptions::default().with_initial_position(position).with_receiver_queue_size(queue);
            let builder = client
                .consumer()
                .with_topic(&topic)
                .with_subscription(how.name)
                .with_subscription_type(SubType::KeyShared)
                .with_batch_size(queue)
                .with_options(options);
            async move { builder.build::<Vec<u8>>().await }
        });
        let built = link.wait(options, "subscribing", async { Ok(join_all(building).await) })?;
        let mut receiver = Self {
            consumers: Vec::new(),
            batches: BTreeMap::new(),
            schemas: BTreeMap::new(),
            unreadable: Unreadable::default(),
            link,
        };
        for consumer in built {
            // Those that were built are dropped by the receiver, also when another one failed.
            match consumer {
                Ok(consumer) => receiver.consumers.push(consumer),
                Err(error) => return Err(faults::of(options, &format!("subscribing as {}", how.name), &error)),
            }
        }
        Ok(receiver)
    }

    /// What has arrived, at most `limit` messages; waits for the first one.
    pub(crate) fn receive(
        &mut self,
        options: &Options,
        limit: usize,
        wait: Duration,
        now: impl Fn() -> Instant,
    ) -> Result<Vec<Inbound>> {
        let Self { consumers, link, .. } = self;
        let received = link.block_on(async {
            // A consumer that ended says so with a none; without that the others would hide it.
            let ends = consumers.iter_mut().enumerate();
            let ends = ends.map(|(nth, consumer)| {
                consumer.map(move |message| (nth, Some(message))).chain(stream::iter([(nth, None)]))
            });
            let mut all = stream::select_all(ends);
            let mut received = Vec::new();
            let mut next = timeout(wait, all.next()).await.unwrap_or_default().map(|first| received.push(first));
            while next.is_some() && received.len() < limit {
                next = all.next().now_or_never().flatten().map(|message| received.push(message));
            }
            received
        });
        let mut messages = Vec::with_capacity(received.len());
        for (nth, message) in received {
            match message {
                Some(Ok(message)) => messages.push(Inbound::of(message)),
                Some(Err(error)) if cannot_unpack(&error) => {
                    let topic = self.consumers[nth].topics().pop().unwrap_or_default();
                    tracing::warn!(topic, %error, "a message cannot be unpacked");
                    self.unreadable.met(&topic, now());
                }
                Some(Err(error)) => return Err(faults::of(options, "receiving", &error)),
                None => return Err(faults::unavailable(options, "a consumer ended; it begins again", "end of stream")),
            }
        }
        Ok(messages)
    }

    /// The names by which the broker knows our consumers, by topic without partition.
    pub(crate) fn names(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut names = BTreeMap::<String, BTreeSet<String>>::new();
        for consumer in &self.consumers {
            let name = consumer.consumer_name().unwrap_or_default();
            for topic in consumer.topics() {
                names.entry(whole_topic(&topic).to_owned()).or_default().insert(name.to_owned());
            }
        }
        names
    }

    /// Waits while nothing may be fetched.
    pub(crate) fn pause(&self, wait: Duration) {
        let _ = self.link.block_on(async { timeout(wait, std::future::pending::<()>()).await });
    }

    /// Waits until the acknowledgements have been sent, as good as that can be known: they have no answers, but a question
    /// after them has. The driver hears neither while it cannot hand messages over, so those that wait are thrown away; they
    /// come again to whoever subscribes next.
    pub(crate) fn flush(&mut self, options: &Options, now: impl Fn() -> Instant) {
        for _ in 0..FLUSHES {
            let _ = self.receive(options, FLUSHED_AT_ONCE, Duration::ZERO, &now);
            let Self { consumers, link, .. } = self;
            let asked = join_all(consumers.iter_mut().map(Consumer::check_connection));
            match link.block_on(async { timeout(FLUSH_LIMIT, asked).await }) {
                Err(_) => {}
                Ok(answers) if answers.iter().all(Result::is_ok) => return,
                Ok(_) => break,
            }
        }
        tracing::warn!(broker = options.service_url, "acknowledgements may be lost: the messages come again");
    }

    /// Tells the broker that messages are done.
    pub(crate) fn acknowledge(&mut self, options: &Options, messages: &[Inbound]) -> Result<()> {
        let done: Vec<&Inbound> = messages.iter().filter(|message| batch_done(&mut self.batches, message)).collect();
        let Self { consumers, link, .. } = self;
        link.wait(options, "acknowledging", async {
            for message in done {
                let consumer = consumers.iter_mut().find(|consumer| consumer.topics().contains(&message.topic));
                if let Some(consumer) = consumer {
                    consumer.ack_with_id(&message.topic, message.raw_id.clone()).await.map_err(pulsar::Error::from)?;
                }
            }
            Ok(())
        })
    }

    /// The Avro schema that a message was written with; none when it says none or another kind; words when it cannot be had. A
    /// fault when the broker does not answer, which is not the message's.
    pub(crate) fn schema(&mut self, options: &Options, message: &Inbound) -> Result<Result<Option<&Schema>, String>> {
        let Some(version) = &message.schema_version else { return Ok(Ok(None)) };
        let place = (message.whole_topic().to_owned(), version.clone());
        if !self.schemas.contains_key(&place) {
            // Asked of the administration: the driver would answer only after the messages that wait here for us.
            let number = <[u8; 8]>::try_from(version.as_slice()).map(i64::from_be_bytes);
            let found = match number {
                Ok(number) => topics::schema_at(options, message.whole_topic(), Some(number))?,
                Err(_) => None,
            };
            let Some(written) = found else { return Ok(Err("its schema is not on the broker".to_owned())) };
            let is_avro = written.r#type() == schema::Type::Avro;
            match is_avro.then(|| Schema::parse_reader(&mut written.schema_data.as_slice())).transpose() {
                Ok(schema) => drop(self.schemas.insert(place.clone(), schema)),
                Err(error) => return Ok(Err(format!("its schema cannot be read: {error}"))),
            }
        }
        Ok(Ok(self.schemas.get(&place).and_then(Option::as_ref)))
    }
}

/// Whether the driver goes on after this error, without the message.
const fn cannot_unpack(error: &pulsar::Error) -> bool {
    matches!(
        error,
        pulsar::Error::Consumer(ConsumerError::Io(_) | ConsumerError::MissingPayload(_))
            | pulsar::Error::Connection(ConnectionError::Decoding(_))
    )
}

/// Whether with this message everything of its entry is done.
fn batch_done(batches: &mut BTreeMap<(u64, u64), BTreeSet<i32>>, message: &Inbound) -> bool {
    if message.batch_size <= 1 {
        return true;
    }
    let place = (message.raw_id.ledger_id, message.raw_id.entry_id);
    let done = batches.entry(place).or_default();
    done.insert(message.raw_id.batch_index());
    let whole = i32::try_from(done.len()).is_ok_and(|count| count >= message.batch_size);
    if whole {
        batches.remove(&place);
    }
    whole
}
