//! The messages of PostgreSQL's output plug-in `pgoutput`, as far as a publication of inserts sends them: begin, commit,
//! the shape of the table, a row. It must not know connections.
//! <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>

use kernel::{EventId, EventRecord, Fault, Result, Timestamp};

use super::garbled;
use crate::sequence::Sequence;
use crate::{COLUMNS, TABLE};

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

#[cfg(test)]
mod tests {
    use super::*;

    const RELATION: u32 = 16_384;

    fn number(value: i64) -> Option<Vec<u8>> {
        Some(value.to_be_bytes().to_vec())
    }

    fn text(value: &str) -> Option<Vec<u8>> {
        Some(value.as_bytes().to_vec())
    }

    fn relation() -> Vec<u8> {
        let mut bytes = [&b"R"[..], &RELATION.to_be_bytes(), b"public\0outbox_event\0d"].concat();
        // A column that is not known here, and ours backwards.
        let names: Vec<&str> = COLUMNS.iter().rev().copied().chain(["shard"]).collect();
        bytes.extend(u16::try_from(names.len()).unwrap().to_be_bytes());
        names.iter().for_each(|name| bytes.extend([b"\0", name.as_bytes(), &[0; 9]].concat()));
        bytes
    }

    fn insert(position: i64) -> Vec<u8> {
        let id = Some(vec![7; 16]);
        let row = [
            number(position),
            id.clone(),
            text("a"),
            text("b"),
            text("c"),
            text("{}"),
            number(-5),
            text("é"),
            id,
            None,
        ];
        let mut bytes = [&b"I"[..], &RELATION.to_be_bytes(), b"N", &11_u16.to_be_bytes()].concat();
        for value in row.into_iter().rev().chain([number(3)]) {
            match value {
                Some(value) => {
                    bytes.push(b'b');
                    bytes.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                    bytes.extend(value);
                }
                None => bytes.push(b'n'),
            }
        }
        bytes
    }

    fn decoder(sequence: &Sequence<u64>) -> Decoder {
        let mut decoder = Decoder::default();
        decoder.decode(&relation(), sequence).unwrap();
        decoder
    }

    #[test]
    fn columns_are_found_by_name_and_old_rows_are_not_read() {
        let sequence = Sequence::new(4, 0, 0);
        let mut decoder = decoder(&sequence);
        let Message::Insert(event) = decoder.decode(&insert(5), &sequence).unwrap() else { panic!("no event") };
        assert_eq!((event.position, event.actor.as_str(), event.time.as_micros()), (5, "é", -5));
        assert_eq!((event.causation_id, event.correlation_id), (Some(event.id), None));
        assert!(matches!(decoder.decode(&insert(4), &sequence).unwrap(), Message::Nothing));
    }

    #[test]
    fn a_message_cut_short_or_changed_is_a_fault_and_no_panic() {
        let sequence = Sequence::new(0, 0, 0);
        let (whole, table) = (insert(1), relation());
        for end in 0..whole.len() {
            assert!(decoder(&sequence).decode(&whole[..end], &sequence).is_err(), "{end}");
        }
        for end in 0..table.len() {
            assert!(Decoder::default().decode(&table[..end], &sequence).is_err(), "{end}");
        }
        for (at, bit) in (0..whole.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            let _ = decoder(&sequence).decode(&changed, &sequence);
        }
    }
}
