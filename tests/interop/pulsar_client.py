#!/usr/bin/env python3
"""The official Python client against the topics of Alpes: everybody must be able to read them with their schemas, and
nothing that anybody sends may stop those who read. Tests of crates/log-pulsar and crates/server run it.

    pulsar_client.py consume SERVICE_URL TENANT/NAMESPACE SCHEMAS_FOLDER JSON|AVRO COUNT
        reads COUNT messages from all topics, each with its schema, and prints one line of JSON for each
    pulsar_client.py disturb SERVICE_URL TENANT/NAMESPACE SCHEMAS_FOLDER JSON
        sends what is no event to partners.partner, and prints how often and what was refused
    pulsar_client.py send SERVICE_URL TENANT/NAMESPACE SCHEMAS_FOLDER JSON|AVRO
        sends what standard input says, a JSON document per line: {"topic", "key"?, "properties"?} and one of "value" (along the
        topic's schema), "record" (of an ordinary class, to commands.conversion), "raw" (these bytes, "times" so often); and
        prints how many, and which other schemas the broker refused on those topics
"""

import json
import logging
import os
import pathlib
import sys

import pulsar
from pulsar.schema import Array, AvroSchema, BytesSchema, JsonSchema, Long, Record, String


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
    print(json.dumps({"sent": sent, "refused": strangers(client, topic)}))


def strangers(client, topic):
    """Which schemas that are not the topic's were refused."""
    refused = []
    stranger = type("Stranger", (dict,), {"schema": classmethod(lambda _: {"type": "record", "name": "x", "fields": [{"name": "partner_id", "type": "long"}]})})
    for name, other in (("no schema", BytesSchema()), ("another schema", JsonSchema(stranger))):
        try:
            client.create_producer(topic, schema=other).close()
        except pulsar.exceptions.PulsarException as error:
            refused.append(f"{name}: {type(error).__name__}")
    return refused


def optional(kind):
    """A field as the topics' schemas have it: nullable, null when it is absent."""
    return kind(required_default=True)


class conversion_amount(Record):
    amount_minor = optional(Long)
    currency = optional(String)


class conversion_lines(Record):
    amount_minor = optional(Long)
    category = optional(String)


class conversion(Record):
    """What anybody would write who wants to send conversions; its schema is that of commands.conversion."""

    _avro_namespace = "alpes.commands"
    amount = optional(conversion_amount)
    campaign_id = optional(String)
    click_id = optional(String)
    code = optional(String)
    customer_ref = optional(String)
    external_id = optional(String)
    kind = optional(String)
    lines = Array(conversion_lines(), required_default=True)
    metadata = optional(String)
    occurred_at = optional(String)
    partner_id = optional(String)
    source = optional(String)


class Bytes(AvroSchema):
    """Says that it is the topic's schema, and sends anything."""

    def encode(self, obj):
        return obj


def send(client, namespace, folder, kind):
    schemas = {topic.rsplit("/", 1)[1]: schema for topic, schema in topics(namespace, folder, kind)}
    producers, sent, receipts = {}, 0, []
    for line in sys.stdin:
        order = json.loads(line)
        local = order["topic"]
        schema = schemas[local]
        way = next(name for name in ("value", "record", "raw") if name in order)
        if way == "record":
            schema = JsonSchema(conversion) if kind == "JSON" else AvroSchema(conversion)
            payload = conversion(**order["record"])
        elif way == "raw":
            payload = order["raw"].encode("latin-1") * order.get("times", 1)
            schema = Garbage(schema._record_cls) if kind == "JSON" else Bytes(None, schema_definition=schema._schema)
        elif kind == "JSON":
            payload = schema._record_cls()
            payload.__dict__.update(order["value"])
        else:
            payload = order["value"]
        if (local, way) not in producers:
            topic = f"persistent://{namespace}/{local}"
            producers[local, way] = client.create_producer(topic, schema=schema, batching_enabled=way == "value", block_if_queue_full=True)
        extra = {name: value for name, value in (("partition_key", order.get("key")), ("properties", order.get("properties"))) if value}
        sent += 1
        # Alone on its way only what is large or strange: the others share the wait for their receipts.
        if way == "value":
            producers[local, way].send_async(payload, lambda result, _: receipts.append(result), **extra)
        else:
            producers[local, way].send(payload, **extra)
    for producer in producers.values():
        producer.flush()
        producer.close()
    lost = [result for result in receipts if result != pulsar.Result.Ok]
    if lost:
        sys.exit(f"{len(lost)} messages were not taken: {lost[0]}")
    refused = [f"{local}: {what}" for local in sorted({local for local, _ in producers}) for what in strangers(client, f"persistent://{namespace}/{local}")]
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
        elif what == "send":
            send(client, namespace, folder, kind)
        else:
            disturb(client, namespace, folder, kind)
    finally:
        client.close()
    # All is said. The client's own threads sometimes abort the interpreter while it ends.
    sys.stdout.flush()
    os._exit(0)


main()
