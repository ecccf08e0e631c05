//! Documents of other people's topics: JSON to and from Avro, along any schema. It must not know our own topics; those have
//! their shapes in `avro`.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::{RecordSchema, UnionSchema};
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use serde_json::Value as Json;

/// The document as Avro. A field that the schema does not know is an error, never left out silently; one that is absent is
/// its default, or null where that is possible.
pub(crate) fn encode(schema: &Schema, document: &Json) -> Result<Vec<u8>, String> {
    let value = to_avro(schema, document, "")?;
    let writer = GenericDatumWriter::builder(schema).build();
    writer.and_then(|writer| writer.write_value_to_vec(value)).map_err(|error| error.to_string())
}

/// The document, from Avro that was written with this schema. A field that is null is absent.
pub(crate) fn decode(schema: &Schema, mut payload: &[u8]) -> Result<Json, String> {
    let reader = GenericDatumReader::builder(schema).build();
    let value = reader.and_then(|reader| reader.read_value(&mut payload));
    let value = value.map_err(|error| format!("it does not fit the schema that it names: {error}"))?;
    if !payload.is_empty() {
        return Err(format!("{} bytes follow after the end of the record", payload.len()));
    }
    to_json(value)
}

fn to_avro(schema: &Schema, document: &Json, place: &str) -> Result<Avro, String> {
    match (schema, document) {
        (Schema::Null, Json::Null) => Ok(Avro::Null),
        (Schema::Boolean, Json::Bool(flag)) => Ok(Avro::Boolean(*flag)),
        (Schema::String, Json::String(text)) => Ok(Avro::String(text.clone())),
        (Schema::Bytes, Json::String(text)) => Ok(Avro::Bytes(text.clone().into_bytes())),
        (Schema::Int, Json::Number(number)) => {
            let whole = number.as_i64().and_then(|number| i32::try_from(number).ok());
            whole.map(Avro::Int).ok_or_else(|| format!("{place}: {number} is not a whole number of 32 bits"))
        }
        (Schema::Long, Json::Number(number)) => {
            let whole = number.as_i64().map(Avro::Long);
            whole.ok_or_else(|| format!("{place}: {number} is not a whole number of 64 bits"))
        }
        (Schema::Float, Json::Number(number)) => {
            // The text is the only way that is exact to the last digit that 32 bits have.
            number.to_string().parse().map(Avro::Float).map_err(|error| format!("{place}: {number}: {error}"))
        }
        (Schema::Double, Json::Number(number)) => {
            number.as_f64().map(Avro::Double).ok_or_else(|| format!("{place}: {number} is not a number of 64 bits"))
        }
        (Schema::Enum(names), Json::String(text)) => {
            let place_of = names.symbols.iter().position(|symbol| symbol == text).and_then(|at| u32::try_from(at).ok());
            place_of.map(|at| Avro::Enum(at, text.clone())).ok_or_else(|| format!("{place}: {text:?} is no name there"))
        }
        (Schema::Array(array), Json::Array(items)) => {
            let items = items.iter().enumerate();
            let items = items.map(|(nth, item)| to_avro(&array.items, item, &format!("{place}/{nth}")));
            items.collect::<Result<_, _>>().map(Avro::Array)
        }
        (Schema::Map(map), Json::Object(object)) => {
            let values = object.iter();
            let values =
                values.map(|(name, value)| Ok((name.clone(), to_avro(&map.types, value, &format!("{place}/{name}"))?)));
            values.collect::<Result<_, String>>().map(Avro::Map)
        }
        (Schema::Union(union), document) => in_union(union, document, place),
        (Schema::Record(record), Json::Object(object)) => to_record(record, object, place),
        (schema, document) => Err(format!("{place}: {document} is no {}", name_of(schema))),
    }
}

fn name_of(schema: &Schema) -> &'static str {
    match schema {
        Schema::Null => "null",
        Schema::Boolean => "boolean",
        Schema::Int | Schema::Long => "whole number",
        Schema::Float | Schema::Double => "number",
        Schema::String | Schema::Bytes | Schema::Enum(_) => "text",
        Schema::Array(_) => "list",
        Schema::Map(_) | Schema::Record(_) => "object",
        _ => "kind of value that can be written",
    }
}

/// The first variant that takes it.
fn in_union(union: &UnionSchema, document: &Json, place: &str) -> Result<Avro, String> {
    let mut reasons = Vec::new();
    for (nth, variant) in (0..).zip(union.variants()) {
        match to_avro(variant, document, place) {
            Ok(value) => return Ok(Avro::Union(nth, Box::new(value))),
            Err(reason) if *variant != Schema::Null => reasons.push(reason),
            Err(_) => {}
        }
    }
    Err(reasons.pop().unwrap_or_else(|| format!("{place}: {document} is not null")))
}

fn to_record(record: &RecordSchema, object: &serde_json::Map<String, Json>, place: &str) -> Result<Avro, String> {
    if let Some(unknown) = object.keys().find(|name| record.fields.iter().all(|field| field.name != **name)) {
        return Err(format!("{place}/{unknown} is not in the schema"));
    }
    let values = record.fields.iter().map(|field| {
        let document = object.get(&field.name).or(field.default.as_ref()).unwrap_or(&Json::Null);
        Ok((field.name.clone(), to_avro(&field.schema, document, &format!("{place}/{}", field.name))?))
    });
    values.collect::<Result<_, String>>().map(Avro::Record)
}

/// What was read as a document; a field that is null is left out.
pub(crate) fn to_json(value: Avro) -> Result<Json, String> {
    Ok(match value {
        Avro::Null => Json::Null,
        Avro::Boolean(flag) => Json::Bool(flag),
        Avro::Int(number) => Json::from(number),
        Avro::Long(number) => Json::from(number),
        // As its sender wrote it, not with the digits that only 64 bits have.
        Avro::Float(number) => number.to_string().parse::<f64>().map_or(Json::Null, Json::from),
        Avro::Double(number) => Json::from(number),
        Avro::String(text) | Avro::Enum(_, text) => Json::String(text),
        Avro::Bytes(bytes) => Json::String(String::from_utf8(bytes).map_err(|_| "bytes that are no text".to_owned())?),
        Avro::Union(_, value) => to_json(*value)?,
        Avro::Array(items) => Json::Array(items.into_iter().map(to_json).collect::<Result<_, _>>()?),
        Avro::Record(fields) => to_object(fields)?,
        Avro::Map(entries) => to_object(entries.into_iter().collect())?,
        other => return Err(format!("no document has a {other:?}")),
    })
}

fn to_object(fields: Vec<(String, Avro)>) -> Result<Json, String> {
    let fields = fields.into_iter().map(|(name, value)| Ok((name, to_json(value)?)));
    let fields = fields.collect::<Result<Vec<_>, String>>()?;
    Ok(Json::Object(fields.into_iter().filter(|(_, value)| !value.is_null()).collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        let optional = |name: &str, kind: Json| json!({ "name": name, "type": ["null", kind] });
        let inner = json!({ "type": "record", "name": "inner", "fields": [optional("amount", json!("float"))] });
        let definition = json!({ "type": "record", "name": "outer", "fields": [
            optional("text", json!("string")),
            optional("large", json!("long")),
            optional("data", inner),
            optional("words", json!({ "type": "array", "items": "string" })),
            { "name": "small", "type": "int", "default": 7 },
            { "name": "kind", "type": { "type": "enum", "name": "kinds", "symbols": ["A", "B"] } },
            { "name": "more", "type": { "type": "map", "values": "double" } },
        ] });
        Schema::parse(&definition).unwrap()
    }

    #[test]
    fn a_document_comes_back_as_it_went() {
        let document = json!({
            "text": "ñandú", "large": i64::MIN, "data": { "amount": 2500.1 }, "words": ["a", "b"],
            "small": -1, "kind": "B", "more": { "x": 0.5 },
        });
        assert_eq!(decode(&schema(), &encode(&schema(), &document).unwrap()).unwrap(), document);
        let least = json!({ "kind": "A", "more": {} });
        let read = decode(&schema(), &encode(&schema(), &least).unwrap()).unwrap();
        assert_eq!(read, json!({ "kind": "A", "more": {}, "small": 7 }));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_place() {
        let encode = |document: Json| encode(&schema(), &document).unwrap_err();
        for (document, reason) in [
            (json!({ "kind": "A", "more": {}, "new": 1 }), "/new is not in the schema"),
            (json!({ "kind": "A", "more": {}, "data": { "sum": 1 } }), "/data/sum is not in the schema"),
            (json!({ "kind": "C", "more": {} }), "/kind: \"C\" is no name there"),
            (json!({ "kind": "A" }), "/more: null is no object"),
            (json!({ "kind": "A", "more": {}, "small": 1_i64 << 40 }), "is not a whole number of 32 bits"),
            (json!({ "kind": "A", "more": {}, "words": ["a", 1] }), "/words/1: 1 is no text"),
            (json!([]), "[] is no object"),
        ] {
            let said = encode(document.clone());
            assert!(said.contains(reason), "{document}: {said}");
        }
        let good = super::encode(&schema(), &json!({ "kind": "A", "more": {} })).unwrap();
        assert!(decode(&schema(), &good[..good.len() - 1]).unwrap_err().contains("does not fit"));
        assert!(decode(&schema(), &[good, vec![0]].concat()).unwrap_err().contains("1 bytes follow"));
    }
}
