//! The binary log of MariaDB: what its events mean for a reader of one table. It must not know who waits for them.
//! <https://mariadb.com/kb/en/2-binlog-event-header/>

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use kernel::{EventId, EventRecord, Fault, Result, Timestamp};
use mysql::binlog::EventType;
use mysql::binlog::events::{Event, EventData, QueryEvent, RotateEvent, RowsEventData};
use mysql::binlog::row::BinlogRow;
use mysql::binlog::value::BinlogValue;
use mysql::prelude::Queryable as _;
use mysql::{BinlogRequest, BinlogStream, Value};
use platform::Endpoint;

use super::admin::{self, Start};
use super::{Piece, Place, garbled, unreadable};
use crate::connect::{self, lost};
use crate::{COLUMNS, TABLE};

/// An idle server says at least every second that it is there; one that is silent for long is gone.
const HEARTBEAT: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(15);
/// A transaction is handed on in pieces of so many events or bytes.
const PIECE_EVENTS: usize = 256;
const PIECE_BYTES: usize = 1 << 20;
/// MariaDB's own kinds of events, of which the client knows nothing: comments, marks for recovery, lists of ids.
const GTID: u8 = 162;
const HARMLESS: [u8; 3] = [160, 161, 163];
/// A transaction that is one statement, without a commit of its own.
const STANDALONE: u8 = 1;

/// Reads the binary log.
pub(super) struct Reader {
    stream: BinlogStream,
    database: String,
    /// Which column of the table is which of ours: the log has them by number.
    columns: admin::Columns,
    place: Place,
    /// The transaction that is being told.
    open: Option<Open>,
    piece: Vec<EventRecord>,
    piece_bytes: usize,
}

struct Open {
    domain: u32,
    server: u32,
    sequence: u64,
    is_standalone: bool,
    /// Whether some of it was handed on.
    is_told: bool,
}

impl Reader {
    pub(super) fn open(endpoint: &Endpoint, name: &str, start: &Start) -> Result<Self> {
        let mut conn = connect::mariadb(endpoint, SILENCE)?;
        let columns = admin::columns(&mut conn)?;
        let settings = format!(
            "SET @mariadb_slave_capability = 4, @slave_connect_state = '{}', @slave_gtid_strict_mode = 0, \
             @slave_gtid_ignore_duplicates = 0, @master_heartbeat_period = {}, net_write_timeout = 300",
            start.gtids,
            HEARTBEAT.as_nanos()
        );
        conn.query_drop(settings).map_err(|error| admin::fault(&error))?;
        let server_id = server_id(&endpoint.database, name);
        let stream = conn.get_binlog_stream(BinlogRequest::new(server_id)).map_err(|error| admin::fault(&error))?;
        Ok(Self {
            stream,
            database: endpoint.database.clone(),
            columns,
            place: Place { gtids: start.gtids.clone(), ..Place::default() },
            open: None,
            piece: Vec::new(),
            piece_bytes: 0,
        })
    }

    /// Reads until the log ends with a fault or nobody listens any more; heartbeats find out about the latter.
    pub(super) fn run(mut self, sender: &SyncSender<Result<Piece>>) {
        loop {
            let told = match self.stream.next() {
                Some(Ok(event)) => self.take(&event),
                Some(Err(error)) => Err(admin::fault(&error)),
                None => Err(lost(&"the server has ended the stream")),
            };
            let is_last = told.is_err();
            if let Some(piece) = told.transpose()
                && (sender.send(piece).is_err() || is_last)
            {
                return;
            }
        }
    }

    fn take(&mut self, event: &Event) -> Result<Option<Piece>> {
        let header = event.header();
        let kind = header.event_type_raw();
        if header.log_pos() > 0 {
            self.place.offset = header.log_pos().into();
        }
        match kind {
            GTID => {
                // The one before has ended, whether its end was recognised or not.
                let before = self.close();
                self.open = Some(opened(event)?);
                return Ok(before);
            }
            kind if HARMLESS.contains(&kind) => return Ok(None),
            // A compressed row would vanish without a word; so might whatever is added after this was written.
            kind if kind >= 160 => {
                return Err(unreadable(format!("an event of the unknown kind {kind}; is log_bin_compress on?")));
            }
            _ => {}
        }
        match header.event_type() {
            Ok(EventType::HEARTBEAT_EVENT) => Ok(Some(Piece::default())),
            Ok(EventType::ROTATE_EVENT) => {
                let rotate: RotateEvent<'_> = event.read_event().map_err(garbled)?;
                self.place.file = Arc::from(&*String::from_utf8_lossy(rotate.name_raw()));
                Ok(None)
            }
            Ok(EventType::XID_EVENT | EventType::XA_PREPARE_LOG_EVENT) => Ok(self.close()),
            Ok(EventType::QUERY_EVENT) => self.query(event),
            Ok(EventType::WRITE_ROWS_EVENT_V1 | EventType::WRITE_ROWS_EVENT) => self.rows(event),
            Ok(EventType::INCIDENT_EVENT) => Err(unreadable("an incident: the server says that it lost events")),
            Ok(_) => Ok(None),
            Err(error) => Err(garbled(error)),
        }
    }

    fn query(&mut self, event: &Event) -> Result<Option<Piece>> {
        let query: QueryEvent<'_> = event.read_event().map_err(garbled)?;
        let text = query.query_raw();
        let is_standalone = self.open.as_ref().is_some_and(|open| open.is_standalone);
        if text.starts_with(b"ROLLBACK") && (!self.piece.is_empty() || self.open.as_ref().is_some_and(|o| o.is_told)) {
            return Err(unreadable("a transaction that was taken back after it was logged"));
        }
        if is_standalone || text == b"COMMIT" || text == b"ROLLBACK" { Ok(self.close()) } else { Ok(None) }
    }

    /// Ends the open transaction.
    fn close(&mut self) -> Option<Piece> {
        let open = self.open.take()?;
        self.piece_bytes = 0;
        self.place.gtids.reach(open.domain, open.server, open.sequence);
        Some(Piece { events: std::mem::take(&mut self.piece), end: Some(self.place.clone()) })
    }

    fn rows(&mut self, event: &Event) -> Result<Option<Piece>> {
        let Some(EventData::RowsEvent(rows)) = event.read_data().map_err(garbled)? else {
            return Err(garbled("a row that cannot be read"));
        };
        let table = self.stream.get_tme(rows.table_id()).ok_or_else(|| garbled("a row of an unknown table"))?;
        if table.table_name_raw() != TABLE.as_bytes() || table.database_name_raw() != self.database.as_bytes() {
            return Ok(None);
        }
        if table.columns_count() != self.columns.count {
            return Err(unreadable("rows from before the table changed its columns"));
        }
        let rows: &RowsEventData<'_> = &rows;
        self.piece_bytes += event.data().len();
        for row in rows.rows(table) {
            let (_, row) = row.map_err(garbled)?;
            let row = row.ok_or_else(|| garbled("an insert without a row"))?;
            self.piece.push(record(row, &self.columns)?);
        }
        if self.piece.len() < PIECE_EVENTS && self.piece_bytes < PIECE_BYTES {
            return Ok(None);
        }
        self.piece_bytes = 0;
        if let Some(open) = &mut self.open {
            open.is_told = true;
        }
        Ok(Some(Piece { events: std::mem::take(&mut self.piece), end: None }))
    }
}

fn opened(event: &Event) -> Result<Open> {
    // sequence, domain, flags; the server is in the header
    let (sequence, rest) = event.data().split_first_chunk().ok_or_else(|| garbled("a short transaction id"))?;
    let (domain, rest) = rest.split_first_chunk().ok_or_else(|| garbled("a short transaction id"))?;
    let flags = rest.first().ok_or_else(|| garbled("a short transaction id"))?;
    Ok(Open {
        sequence: u64::from_le_bytes(*sequence),
        domain: u32::from_le_bytes(*domain),
        server: event.header().server_id(),
        is_standalone: flags & STANDALONE != 0,
        is_told: false,
    })
}

/// A number for this reader among the server's replicas: the same for a stream always, so that a new reader ends an old
/// one that the server has not yet missed.
fn server_id(database: &str, name: &str) -> u32 {
    let bytes = database.bytes().chain([b'/']).chain(name.bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    0x4000_0000 | (hash >> 2)
}

fn record(mut row: BinlogRow, columns: &admin::Columns) -> Result<EventRecord> {
    let mut value = |place: usize| match row.take(columns.places[place]) {
        Some(BinlogValue::Value(value)) => Ok(value),
        _ => Err(unreadable(format!("a row without {}; is binlog_row_image FULL?", COLUMNS[place]))),
    };
    Ok(EventRecord {
        position: integer(value(0)?)?,
        id: id(value(1)?)?.ok_or_else(|| garbled("an event without an id"))?,
        aggregate: text(value(2)?)?,
        subject: text(value(3)?)?,
        event_type: text(value(4)?)?,
        payload: text(value(5)?)?,
        time: Timestamp::from_micros(integer(value(6)?)?),
        actor: text(value(7)?)?,
        causation_id: id(value(8)?)?,
        correlation_id: optional_text(value(9)?)?,
    })
}

fn integer(value: Value) -> Result<i64> {
    match value {
        Value::Int(value) => Ok(value),
        Value::UInt(value) => i64::try_from(value).map_err(garbled),
        other => Err(wrong(&other)),
    }
}

/// Sixteen bytes; the log leaves zeros at the end away.
fn id(value: Value) -> Result<Option<EventId>> {
    match value {
        Value::NULL => Ok(None),
        Value::Bytes(mut bytes) => {
            bytes.resize(bytes.len().max(16), 0);
            bytes.as_slice().try_into().map(|bytes| Some(EventId::from_bytes(bytes))).map_err(garbled)
        }
        other => Err(wrong(&other)),
    }
}

fn optional_text(value: Value) -> Result<Option<String>> {
    match value {
        Value::NULL => Ok(None),
        Value::Bytes(bytes) => String::from_utf8(bytes).map(Some).map_err(garbled),
        other => Err(wrong(&other)),
    }
}

fn text(value: Value) -> Result<String> {
    optional_text(value)?.ok_or_else(|| garbled("a text is missing"))
}

fn wrong(value: &Value) -> Fault {
    garbled(format!("a value of another type: {value:?}"))
}
