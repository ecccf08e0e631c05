#!/usr/bin/env python3
"""The official Python client against the topics of Alpes: everybody must be able to read them with their schemas, and
nothing that anybody sends may stop those who read. A test of crates/log-pulsar runs it.

    pulsar_client.py consume SERVICE_URL TENANT/NAMESPACE SCHEMAS_FOLDER JSON|AVRO COUNT
        reads COUNT messages from all topics, each with its schema, and prints one line of JSON for each
    pulsar_client.py disturb SERVICE_URL TENANT/NAMESPACE SCHEMAS_FOLDER JSON
        sends what is no event to partners.partner, and prints how often and what was refused
"""

import json
import logging
import pathlib
import sys

import pulsar
from pulsar.schema import AvroSchema, BytesSchema, JsonSchema


def schema_of(definition, kind):
    """A schema from its Avro definition. The client's JsonSchema wants a class: a dict that can tell its schema will do."""
    if kind == "AVRO":
        return AvroSchema(None, schema_definition=definition)
    payload = type(definition["name"], (dict,), {"schema": classmethod(lambda _: definition)})
    return JsonSchema(payload)


def topics(namespace, folder, kind):
    for path in sorted(pathlib.Path(folder).glob("*.avsc")):
        yield f"persistent://{namespace}/{path.stem}", schema_of(json.loads(path.read_text()), kind)


def consume(client, namespace, folder, kind, count):
    consumers = [
        client.subscribe(topic, "python", schema=schema, initial_position=pulsar.InitialPosition.Earliest)
        for topic, schema in topics(namespace, folder, kind)
    ]
    found = 0
    while found < count:
        before = found
        for consumer in consumers:
            while True:
                try:
                    message = consumer.receive(timeout_millis=200)
                except pulsar.Timeout:
                    break
                line = {
                    "topic": message.topic_name(),
                    "key": message.partition_key(),
                    "properties": message.properties(),
                    "value": message.value(),
                }
                print(json.dumps(line), flush=True)
                consumer.acknowledge(message)
                found += 1
        if before == found:
            sys.exit(f"only {found} of {count} messages")


class Garbage(JsonSchema):
    """Says that it is the topic's schema, and sends anything."""

    def encode(self, obj):
        return obj


def disturb(client, namespace, folder, kind):
    topic, schema = next((t, s) for t, s in topics(namespace, folder, kind) if t.endswith("/partners.partner"))
    sent, refused = 0, []
    declared = Garbage(schema._record_cls)
    ways = [
        {},
        {"batching_enabled": True},
        {"compression_type": pulsar.CompressionType.LZ4},
        {"compression_type": pulsar.CompressionType.ZLib},
        {"compression_type": pulsar.CompressionType.ZSTD},
        {"compression_type": pulsar.CompressionType.SNAPPY},
        {"chunking_enabled": True, "batching_enabled": False},
    ]
    for way in ways:
        producer = client.create_producer(topic, schema=declared, **way)
        size = 6_000_000 if "chunking_enabled" in way else 100
        for payload in (b"{", b"\xff\x00", b"null", b"[]", b"x" * size):
            producer.send(payload, partition_key="python", properties={"ce_type": "partners.suspended.v1"})
            sent += 1
        producer.close()
    stranger = type("Stranger", (dict,), {"schema": classmethod(lambda _: {"type": "record", "name": "x", "fields": [{"name": "partner_id", "type": "long"}]})})
    for name, other in (("no schema", BytesSchema()), ("another schema", JsonSchema(stranger))):
        try:
            client.create_producer(topic, schema=other).close()
        except pulsar.exceptions.PulsarException as error:
            refused.append(f"{name}: {type(error).__name__}")
    print(json.dumps({"sent": sent, "refused": refused}))


def main():
    what, service_url, namespace, folder, kind, *count = sys.argv[1:]
    # The client's own logger writes to the standard output, which is for the answer.
    logger = logging.getLogger("pulsar")
    logger.setLevel(logging.ERROR)
    client = pulsar.Client(service_url, logger=logger, operation_timeout_seconds=10)
    try:
        if what == "consume":
            consume(client, namespace, folder, kind, int(count[0]))
        else:
            disturb(client, namespace, folder, kind)
    finally:
        client.close()


main()
