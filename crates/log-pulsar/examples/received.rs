//! Prints each event of one topic when it arrives: its subject, its type, and the time in microseconds since 1970. For
//! `cargo x bench scale`, which compares the times with those of the answers that its own client got.
//!
//! `received pulsar://… http://… namespace topic`, for example `… alpes conversions.conversion`; it ends with its input.
#![expect(clippy::disallowed_methods, reason = "a measurement: real time, and a thread that waits for the end")]

use std::io::{Read as _, Write as _};
use std::time::{Duration, SystemTime};

use log_pulsar::{Options, Subscription, SubscriptionOptions};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [service, admin, namespace, topic] = arguments.as_slice() else {
        panic!("received SERVICE_URL ADMIN_URL NAMESPACE TOPIC");
    };
    let mut options = Options::new(service, admin);
    options.namespace.clone_from(namespace);
    let mut how = SubscriptionOptions::new("received", vec![options.topic(topic)]);
    how.wait = Duration::from_millis(20);
    let mut subscription = Subscription::new(options, how).expect("the options are right");
    std::thread::spawn(|| {
        let ended = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(i32::from(ended.is_err()));
    });
    let mut output = std::io::stdout().lock();
    loop {
        let step = subscription.step(|messages| {
            let now = micros();
            let events = messages.iter().filter_map(|message| message.event.as_ref());
            let lines: String = events.map(|event| format!("{} {} {now}\n", event.subject, event.event_type)).collect();
            output.write_all(lines.as_bytes()).and_then(|()| output.flush()).expect("somebody reads");
            Ok(())
        });
        step.expect("the broker answers");
    }
}

fn micros() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_micros()
}
