//! Payloads as Avro: from and to the event's JSON, along the shape of their topic. Absent and null are the same, as they
//! are in the events' own types.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use serde_json::Value as Json;

use crate::document::to_json;
use crate::schema::{Shape, TopicSchema};

/// Writes and reads the payloads of one topic.
pub(crate) struct Codec {
    schema: Schema,
    shape: Shape,
}

impl Codec {
    pub(crate) fn new(topic: &TopicSchema) -> Result<Self, String> {
        // What a length in a garbled message may make us reserve.
        apache_avro::util::max_allocation_bytes(16 * 1024 * 1024);
        let schema = Schema::parse(&topic.definition).map_err(|error| format!("{}: {error}", topic.local))?;
        Ok(Self { schema, shape: topic.shape.clone() })
    }

    /// The event's JSON as Avro. A field that the schema does not know is an error, never left out silently.
    pub(crate) fn encode(&self, payload: &str) -> Result<Vec<u8>, String> {
        let json: Json = serde_json::from_str(payload).map_err(|error| error.to_string())?;
        let value = to_avro(&self.shape, json, "")?;
        write(&self.schema, value)
    }

    /// The event's JSON, from Avro that was written with the schema `written` (none: with this one).
    pub(crate) fn decode(&self, payload: &[u8], written: Option<&Schema>) -> Result<String, String> {
        let mut rest = payload;
        let reader = match written {
            Some(written) => GenericDatumReader::builder(written).reader_schema(&self.schema).build(),
            None => GenericDatumReader::builder(&self.schema).build(),
        };
        let value = reader.and_then(|reader| reader.read_value(&mut rest)).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err(format!("{} bytes follow after the end of the record", rest.len()));
        }
        Ok(to_json(value)?.to_string())
    }
}

fn write(schema: &Schema, value: Avro) -> Result<Vec<u8>, String> {
    let writer = GenericDatumWriter::builder(schema).build();
    writer.and_then(|writer| writer.write_value_to_vec(value)).map_err(|error| error.to_string())
}

fn to_avro(shape: &Shape, json: Json, place: &str) -> Result<Avro, String> {
    match (shape, json) {
        (Shape::Text, Json::String(text)) => Ok(Avro::String(text)),
        (Shape::Flag, Json::Bool(flag)) => Ok(Avro::Boolean(flag)),
        (Shape::Whole, Json::Number(number)) => {
            number.as_i64().map(Avro::Long).ok_or_else(|| format!("{place}: {number} is not a whole number of 64 bits"))
        }
        (Shape::List(item), Json::Array(items)) => {
            let items = items.into_iter().enumerate().map(|(n, json)| to_avro(item, json, &format!("{place}/{n}")));
            items.collect::<Result<_, _>>().map(Avro::Array)
        }
        (Shape::Record(fields), Json::Object(mut object)) => {
            let values = fields.iter().map(|(name, shape)| {
                let value = match object.remove(name) {
                    None | Some(Json::Null) => Avro::Union(0, Box::new(Avro::Null)),
                    Some(json) => Avro::Union(1, Box::new(to_avro(shape, json, &format!("{place}/{name}"))?)),
                };
                Ok((name.clone(), value))
            });
            let values = values.collect::<Result<_, String>>()?;
            match object.keys().next() {
                None => Ok(Avro::Record(values)),
                Some(unknown) => Err(format!("{place}/{unknown} is not in the topic's schema")),
            }
        }
        (shape, json) => Err(format!("{place}: {json} is not {shape:?}")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::schema;

    fn codecs() -> BTreeMap<&'static str, Codec> {
        let topics = schema::all().unwrap();
        let codecs = topics.values().flat_map(|t| t.types.iter().map(|&name| (name, Codec::new(t).unwrap())));
        codecs.collect()
    }

    #[test]
    fn every_sample_survives_avro() {
        let codecs = codecs();
        for event in events::catalogue() {
            let sample = (event.sample)();
            let codec = &codecs[event.event_type];
            let back = codec.decode(&codec.encode(&sample).unwrap(), None).unwrap();
            let (sample, back): (Json, Json) =
                (serde_json::from_str(&sample).unwrap(), serde_json::from_str(&back).unwrap());
            assert_eq!(back, sample, "{}", event.event_type);
        }
    }

    #[test]
    fn what_is_not_in_the_schema_is_refused_at_its_place() {
        let codec = &codecs()["conversions.refunded.v1"];
        for (payload, place) in [
            ("{\"unknown\": 1}", "/unknown"),
            ("{\"refunds\": {\"whole\": 1}}", "/refunds/whole"),
            ("{\"amount\": {\"amount_minor\": 0.5}}", "/amount/amount_minor"),
            ("[]", ": [] is not"),
        ] {
            let error = codec.encode(payload).unwrap_err();
            assert!(error.starts_with(place), "{error}");
        }
        assert!(codec.decode(b"garbage of no use", None).is_err());
        let mut longer = codec.encode("{}").unwrap();
        longer.push(0);
        assert!(codec.decode(&longer, None).unwrap_err().contains("follow"));
    }

    #[test]
    fn avro_of_an_older_schema_is_read() {
        let codec = &codecs()["partners.activated.v1"];
        let old = r#"{"type":"record","name":"partner","namespace":"alpes.partners","fields":
            [{"name":"partner_id","type":["null","string"],"default":null}]}"#;
        let old = Schema::parse_str(old).unwrap();
        let value =
            Avro::Record(vec![("partner_id".to_owned(), Avro::Union(1, Box::new(Avro::String("ptr".to_owned()))))]);
        let datum = write(&old, value).unwrap();
        assert_eq!(codec.decode(&datum, Some(&old)).unwrap(), "{\"partner_id\":\"ptr\"}");
    }
}
