//! The messages of PostgreSQL's output plug-in `pgoutput`, as far as a publication of inserts sends them: begin, commit,
//! the shape of the table, a row. It must not know connections.
//! <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>

use kernel::{EventId, EventRecord, Fault, Result, Timestamp};

use super::garbled;
use crate::TABLE;
use crate::sequence::Sequence;

/// What of a message matters here.
pub(super) enum Message {
    Begin,
    Insert(EventRecord),
    /// Its transaction ends before this place.
    Commit {
        end: u64,
    },
    Nothing,
}

/// The columns of an event that are read, by name: the table may have them in any order, and further ones.
const COLUMNS: [&str; 10] = [
    "position",
    "id",
    "aggregatetype",
    "aggregateid",
    "type",
    "payload",
    "occurred_at",
    "actor",
    "causationid",
    "correlationid",
];

/// Which column of the table is which of ours.
#[derive(Default)]
pub(super) struct Decoder {
    relation: u32,
    places: Vec<Option<usize>>,
}

/// A value of a row.
#[derive(Clone, Copy)]
enum Field<'m> {
    Null,
    Binary(&'m [u8]),
    Text(&'m [u8]),
}

impl Decoder {
    /// Reads a message; of events that are old it reads the position only.
    pub(super) fn decode(&mut self, data: &[u8], sequence: &Sequence<u64>) -> Result<Message> {
        let mut input = Input(data);
        match input.byte()? {
            b'B' => Ok(Message::Begin),
            b'C' => {
                // flags, place of the commit, place behind it, clock
                input.skip(9)?;
                Ok(Message::Commit { end: input.u64()? })
            }
            b'R' => self.relation(&mut input).map(|()| Message::Nothing),
            b'I' => self.insert(&mut input, sequence),
            // The publication holds inserts only; types, origins and messages of others may come.
            _ => Ok(Message::Nothing),
        }
    }

    fn relation(&mut self, input: &mut Input<'_>) -> Result<()> {
        let relation = input.u32()?;
        input.text()?;
        let name = input.text()?;
        input.skip(1)?;
        if name != TABLE {
            return Ok(());
        }
        self.relation = relation;
        self.places.clear();
        for _ in 0..input.u16()? {
            input.skip(1)?;
            let column = input.text()?;
            input.skip(8)?;
            self.places.push(COLUMNS.iter().position(|known| *known == column));
        }
        Ok(())
    }

    fn insert(&self, input: &mut Input<'_>, sequence: &Sequence<u64>) -> Result<Message> {
        let relation = input.u32()?;
        if relation != self.relation {
            return Ok(Message::Nothing);
        }
        input.skip(1)?;
        let mut fields = [Field::Null; COLUMNS.len()];
        for column in 0..usize::from(input.u16()?) {
            let field = input.field()?;
            if let Some(place) = self.places.get(column).copied().flatten() {
                fields[place] = field;
            }
        }
        let position = integer(fields[0])?;
        if sequence.is_old(position) {
            return Ok(Message::Nothing);
        }
        Ok(Message::Insert(EventRecord {
            position,
            id: id(fields[1])?.ok_or_else(|| garbled("an event without an id"))?,
            aggregate: text(fields[2])?,
            subject: text(fields[3])?,
            event_type: text(fields[4])?,
            payload: text(fields[5])?,
            time: Timestamp::from_micros(integer(fields[6])?),
            actor: text(fields[7])?,
            causation_id: id(fields[8])?,
            correlation_id: optional_text(fields[9])?,
        }))
    }
}

fn integer(field: Field<'_>) -> Result<i64> {
    match field {
        Field::Binary(bytes) => bytes.try_into().map(i64::from_be_bytes).map_err(garbled),
        Field::Text(digits) => std::str::from_utf8(digits).map_err(garbled)?.parse().map_err(garbled),
        Field::Null => Err(garbled("a number is missing")),
    }
}

/// Sixteen bytes; as text they are written `\x…`.
fn id(field: Field<'_>) -> Result<Option<EventId>> {
    let bytes: [u8; 16] = match field {
        Field::Null => return Ok(None),
        Field::Binary(bytes) => bytes.try_into().map_err(garbled)?,
        Field::Text(_) => return Err(garbled("an id that is not binary")),
    };
    Ok(Some(EventId::from_bytes(bytes)))
}

fn optional_text(field: Field<'_>) -> Result<Option<String>> {
    match field {
        Field::Null => Ok(None),
        Field::Binary(bytes) | Field::Text(bytes) => {
            std::str::from_utf8(bytes).map(|text| Some(text.to_owned())).map_err(garbled)
        }
    }
}

fn text(field: Field<'_>) -> Result<String> {
    optional_text(field)?.ok_or_else(|| garbled("a text is missing"))
}

/// A message, read from its front.
struct Input<'m>(&'m [u8]);

impl<'m> Input<'m> {
    fn take(&mut self, count: usize) -> Result<&'m [u8], Fault> {
        let (head, rest) = self.0.split_at_checked(count).ok_or_else(|| garbled("a message too short"))?;
        self.0 = rest;
        Ok(head)
    }

    fn skip(&mut self, count: usize) -> Result<()> {
        self.take(count).map(|_| ())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(garbled)
    }

    fn byte(&mut self) -> Result<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Text up to a zero byte.
    fn text(&mut self) -> Result<&'m str> {
        let end = self.0.iter().position(|&byte| byte == 0).ok_or_else(|| garbled("a name without an end"))?;
        let text = std::str::from_utf8(self.take(end)?).map_err(garbled)?;
        self.skip(1)?;
        Ok(text)
    }

    fn field(&mut self) -> Result<Field<'m>> {
        Ok(match self.byte()? {
            b'n' => Field::Null,
            kind @ (b'b' | b't') => {
                let length = usize::try_from(self.u32()?).map_err(garbled)?;
                let bytes = self.take(length)?;
                if kind == b'b' { Field::Binary(bytes) } else { Field::Text(bytes) }
            }
            _ => return Err(garbled("an unknown kind of value")),
        })
    }
}
