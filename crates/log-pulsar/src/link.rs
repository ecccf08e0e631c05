//! A connection to the broker with everything that runs for it. Dropping it ends all of that at once: nothing of a link
//! that was given up can be sent after its successor has begun, so the order of keys holds.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use futures_util::future::join_all;
use kernel::Result;
use pulsar::producer::Message;
use pulsar::proto::Schema;
use pulsar::routing_policy::RoutingPolicy;
use pulsar::{
    Authentication, ConnectionRetryOptions, OperationRetryOptions, Producer, ProducerOptions, Pulsar, TokioExecutor,
};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::faults;
use crate::options::Options;

/// No answer of the broker may take longer than this.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The largest payload that a broker takes by default.
pub(crate) const LARGEST_PAYLOAD_BYTES: usize = 5 * 1024 * 1024 - 64 * 1024;

pub(crate) struct Link {
    /// None only while it is dropped, like the client.
    runtime: Option<Runtime>,
    client: Option<Pulsar<TokioExecutor>>,
    producers: BTreeMap<String, Producer<TokioExecutor>>,
}

impl Link {
    pub(crate) fn open(options: &Options) -> Result<Self> {
        // One thread of its own: the driver answers the broker's pings while nobody calls.
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("pulsar").enable_all().build();
        let runtime = runtime.map_err(|error| faults::unavailable(options, "no thread can be started", error))?;
        let retry = ConnectionRetryOptions {
            connection_timeout: Duration::from_secs(5),
            max_retries: 0,
            keep_alive: Duration::from_secs(30),
            ..ConnectionRetryOptions::default()
        };
        let operation = OperationRetryOptions {
            operation_timeout: ANSWER_LIMIT,
            retry_delay: Duration::from_millis(500),
            max_retries: Some(3),
        };
        let mut builder = Pulsar::builder(&options.service_url, TokioExecutor)
            .with_connection_retry_options(retry)
            .with_operation_retry_options(operation);
        if let Some(token) = &options.token {
            let data = token.clone().into_bytes();
            builder = builder.with_auth(Authentication { name: "token".to_owned(), data });
        }
        match within(&runtime, builder.build()) {
            Some(Ok(client)) => Ok(Self { runtime: Some(runtime), client: Some(client), producers: BTreeMap::new() }),
            outcome => {
                // Dropped in the ordinary way it would wait for what hangs.
                runtime.shutdown_background();
                Err(refuse(options, "connecting", outcome.map(|outcome| outcome.map(drop))))
            }
        }
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("only dropping takes it")
    }

    pub(crate) fn client(&self) -> &Pulsar<TokioExecutor> {
        self.client.as_ref().expect("only dropping takes it")
    }

    /// Waits for `future` within the limit.
    pub(crate) fn wait<T>(
        &self,
        options: &Options,
        what: &str,
        future: impl Future<Output = Result<T, pulsar::Error>>,
    ) -> Result<T> {
        match within(self.runtime(), future) {
            Some(Ok(value)) => Ok(value),
            outcome => Err(refuse(options, what, outcome.map(|outcome| outcome.map(drop)))),
        }
    }

    /// Runs `future`, which has a limit of its own.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime().block_on(future)
    }

    /// For what starts tasks when it is dropped.
    pub(crate) fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.runtime().enter()
    }

    /// Whether there is a producer for `topic`.
    pub(crate) fn is_prepared(&self, topic: &str) -> bool {
        self.producers.contains_key(topic)
    }

    /// Makes producers for those of `topics` that have none yet, all at the same time.
    pub(crate) fn prepare(&mut self, options: &Options, topics: Vec<(String, Option<Schema>)>) -> Result<()> {
        let missing = topics.into_iter().filter(|(topic, _)| !self.producers.contains_key(topic));
        let building: Vec<_> = missing
            .map(|(topic, schema)| {
                let options = ProducerOptions {
                    schema,
                    // A slow broker slows us down; without this the driver fails when its queue is full.
                    block_queue_if_full: true,
                    // Without a policy the driver spreads even messages with a key over all partitions.
                    routing_policy: Some(RoutingPolicy::RoundRobin),
                    ..ProducerOptions::default()
                };
                // Without a name, so that the broker's deduplication could never take new messages for old ones; and
                // without batches, because the driver acknowledges a whole batch with its first message.
                let builder = self.client().producer().with_topic(&topic).with_options(options);
                async move { (topic, builder.build().await) }
            })
            .collect();
        let built = within(self.runtime(), join_all(building));
        let built = built.ok_or_else(|| refuse(options, "creating producers", None))?;
        let mut outcome = Ok(());
        for (topic, producer) in built {
            match producer {
                // Each is kept, also after a failure: dropped outside of the runtime it would panic.
                Ok(producer) => drop(self.producers.insert(topic, producer)),
                Err(error) => outcome = Err(faults::of(options, &format!("producing to {topic}"), &error)),
            }
        }
        outcome
    }

    /// Sends messages to topics that were prepared, in order, and waits until the broker has made all of them durable.
    /// The limit counts from the last answer.
    pub(crate) fn send(&mut self, options: &Options, messages: Vec<(String, Message)>) -> Result<()> {
        let runtime = self.runtime.as_ref().expect("only dropping takes it");
        let producers = &mut self.producers;
        runtime.block_on(async {
            let mut receipts = Vec::with_capacity(messages.len());
            for (topic, message) in messages {
                let producer = producers.get_mut(&topic).expect("every topic was prepared");
                let outcome = timeout(ANSWER_LIMIT, producer.send_non_blocking(message)).await;
                let what = || format!("sending to {topic}");
                match outcome {
                    Ok(Ok(receipt)) => receipts.push((topic, receipt)),
                    outcome => return Err(refuse(options, &what(), outcome.ok().map(|outcome| outcome.map(drop)))),
                }
            }
            for (topic, receipt) in receipts {
                let what = || format!("sending to {topic}");
                match timeout(ANSWER_LIMIT, receipt).await {
                    Ok(Ok(_)) => {}
                    outcome => return Err(refuse(options, &what(), outcome.ok().map(|outcome| outcome.map(drop)))),
                }
            }
            Ok(())
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        {
            // The driver's parts start a task to say goodbye when they are dropped, and panic outside of a runtime.
            let _inside = runtime.enter();
            self.producers.clear();
            self.client = None;
        }
        runtime.shutdown_background();
    }
}

fn within<T>(runtime: &Runtime, future: impl Future<Output = T>) -> Option<T> {
    runtime.block_on(async { timeout(ANSWER_LIMIT, future).await.ok() })
}

/// The fault of an outcome that is not a success; none: it did not come in time.
fn refuse(options: &Options, what: &str, outcome: Option<Result<(), pulsar::Error>>) -> kernel::Fault {
    match outcome {
        Some(Err(error)) => faults::of(options, what, &error),
        _ => {
            let words = format!("{what}: no answer within {} seconds", ANSWER_LIMIT.as_secs());
            faults::unavailable(options, &words, "time limit")
        }
    }
}
