//! Lists: keyset pages by id (ids are time-ordered), with optional conditions.

use kernel::Result;

use crate::sql::{Reader, Row, Value};

/// Which page of a list.
#[derive(Debug, Clone)]
pub struct Page {
    /// The id of the last item of the page before; none for the first page.
    pub after: Option<[u8; 16]>,
    /// Items at most, 1 to 500.
    pub limit: i64,
    /// Newest first instead of oldest first.
    pub descending: bool,
    /// Count all items that meet the conditions.
    pub include_total: bool,
}

impl Page {
    /// The first `limit` items, oldest first.
    pub const fn first(limit: i64) -> Self {
        Self { after: None, limit, descending: false, include_total: false }
    }
}

/// A page of items.
#[derive(Debug, Clone)]
pub struct Paged<T> {
    /// The items.
    pub items: Vec<T>,
    /// The id after which the next page begins; none on the last page.
    pub next: Option<[u8; 16]>,
    /// How many items meet the conditions, when asked for.
    pub total: Option<i64>,
}

/// A list to be asked for: a table whose key column is `id`, with conditions.
pub struct Listing<'v> {
    table: &'static str,
    columns: &'static str,
    conditions: Vec<&'static str>,
    params: Vec<Value<'v>>,
}

impl<'v> Listing<'v> {
    /// A list of `columns` of `table`; `id` comes first among them.
    pub const fn of(table: &'static str, columns: &'static str) -> Self {
        Self { table, columns, conditions: Vec::new(), params: Vec::new() }
    }

    /// Adds a condition with one `?`, when there is a value for it.
    #[must_use]
    pub fn when(mut self, condition: &'static str, value: Option<impl Into<Value<'v>>>) -> Self {
        if let Some(value) = value {
            self.conditions.push(condition);
            self.params.push(value.into());
        }
        self
    }

    /// The page.
    pub fn page<T>(
        &self,
        reader: &Reader<'_>,
        page: &Page,
        mut map: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Paged<T>> {
        let clause = |conditions: &[&str]| {
            if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) }
        };
        let total = if page.include_total {
            let sql = format!("SELECT CAST(COUNT(*) AS BIGINT) FROM {}{}", self.table, clause(&self.conditions));
            reader.query_one(&sql, &self.params, |row| row.int(0))?
        } else {
            None
        };
        let (mut conditions, mut params) = (self.conditions.clone(), self.params.clone());
        if let Some(after) = &page.after {
            conditions.push(if page.descending { "id < ?" } else { "id > ?" });
            params.push(after.into());
        }
        params.push(page.limit.saturating_add(1).into());
        let order = if page.descending { "DESC" } else { "ASC" };
        let sql =
            format!("SELECT {} FROM {}{} ORDER BY id {order} LIMIT ?", self.columns, self.table, clause(&conditions));
        let mut rows = reader.query(&sql, &params, |row| Ok((row.bytes16(0)?, map(row)?)))?;
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(|row| row.0) } else { None };
        Ok(Paged { items: rows.into_iter().map(|row| row.1).collect(), next, total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::OnDuplicate;
    use crate::testing::in_memory;
    use crate::{Db, Lane};

    fn page(db: &Db, kind: Option<&str>, page: &Page) -> Paged<i64> {
        let listing = Listing::of("thing", "id, number").when("kind = ?", kind);
        db.read(|reader| listing.page(reader, page, |row| row.int(1))).unwrap()
    }

    #[test]
    fn pages_cover_everything_once_in_both_directions() {
        let db = in_memory();
        let ids: Vec<[u8; 16]> = (0..25_u8).map(|n| [n; 16]).collect();
        let kind = |n: i64| if n % 5 == 0 { "fifth" } else { "other" };
        let rows: Vec<[Value<'_>; 3]> =
            (0..25).zip(&ids).map(|(n, id)| [id.into(), kind(n).into(), n.into()]).collect();
        db.write("test", Lane::Front, "tester", |tx| {
            tx.insert("thing", ["id", "kind", "number"], &rows, OnDuplicate::Fail)
        })
        .unwrap();
        for (wanted, all) in
            [(None, (0..25).collect::<Vec<_>>()), (Some("fifth"), vec![0, 5, 10, 15, 20]), (Some("none"), vec![])]
        {
            for descending in [false, true] {
                for limit in [1, 4, 5, 24, 25, 26] {
                    let mut asked = Page { descending, include_total: true, ..Page::first(limit) };
                    let mut found = Vec::new();
                    loop {
                        let paged = page(&db, wanted, &asked);
                        assert_eq!(paged.total, i64::try_from(all.len()).ok(), "the total does not depend on the page");
                        assert!(i64::try_from(paged.items.len()).unwrap() <= limit);
                        found.extend(paged.items);
                        asked.after = paged.next;
                        if asked.after.is_none() {
                            break;
                        }
                    }
                    let mut expected = all.clone();
                    if descending {
                        expected.reverse();
                    }
                    assert_eq!(found, expected, "{wanted:?} {descending} {limit}");
                }
            }
        }
        assert_eq!(page(&db, None, &Page::first(5)).total, None);
    }
}
