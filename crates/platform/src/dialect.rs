//! The few places where the SQL of the databases differs: type names and list parameters. Errors and set-based writes are
//! with the drivers, in `connection`.

use std::fmt::Write as _;

use crate::sql::Value;

/// Which SQL is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
    /// MariaDB.
    Mariadb,
    /// MySQL.
    Mysql,
}

impl Dialect {
    /// The type tokens of migrations: `{int}` numbers, money, time; `{id}` sixteen bytes; `{bytes}` up to 1,700 bytes;
    /// `{word}` one of our own short words; `{key}` what others named, up to 255 characters; `{long_key}` two of those;
    /// `{text}` anything; `{clustered}` after a table whose primary key should be its order on disk. Keys are compared
    /// byte for byte, trailing blanks included.
    const fn tokens(self) -> [(&'static str, &'static str); 8] {
        let [int, id, bytes, word, key, long_key, text, clustered] = match self {
            Self::Sqlite => ["INTEGER", "BLOB", "BLOB", "TEXT", "TEXT", "TEXT", "TEXT", "WITHOUT ROWID"],
            Self::Postgres => [
                "BIGINT",
                "BYTEA",
                "BYTEA",
                "TEXT COLLATE \"C\"",
                "TEXT COLLATE \"C\"",
                "TEXT COLLATE \"C\"",
                "TEXT COLLATE \"C\"",
                "",
            ],
            Self::Mariadb => [
                "BIGINT",
                "BINARY(16)",
                "VARBINARY(1700)",
                "VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
                "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
                "VARCHAR(450) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
                "MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
                "",
            ],
            Self::Mysql => [
                "BIGINT",
                "BINARY(16)",
                "VARBINARY(1700)",
                "VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin",
                "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin",
                "VARCHAR(450) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin",
                "MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin",
                "",
            ],
        };
        [
            ("{int}", int),
            ("{id}", id),
            ("{bytes}", bytes),
            ("{word}", word),
            ("{key}", key),
            ("{long_key}", long_key),
            ("{text}", text),
            ("{clustered}", clustered),
        ]
    }

    /// The statements of a migration, with their type tokens replaced and their comments removed.
    pub(crate) fn statements(self, sql: &str) -> Vec<String> {
        let code: Vec<&str> = sql.lines().map(|line| line.split_once("--").map_or(line, |(code, _)| code)).collect();
        let code = self.tokens().iter().fold(code.join("\n"), |sql, (token, name)| sql.replace(token, name));
        code.split(';').map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
    }
}

/// List parameters come in few lengths, so that few statements are prepared: shorter lists repeat their last key.
const LIST_SIZES: [usize; 4] = [1, 8, 64, 512];

/// Replaces `?*` by places for 1 to 512 keys, and answers the statement and the padded list.
pub(crate) fn padded_list<'k, const N: usize>(
    sql: &str,
    keys: &'k [[Value<'k>; N]],
    values: bool,
) -> (String, impl Iterator<Item = &'k Value<'k>>) {
    let size = LIST_SIZES.into_iter().find(|&size| size >= keys.len()).unwrap_or(512);
    let padding = std::iter::repeat_n(&keys[keys.len() - 1], size - keys.len());
    (expand_list(sql, size, N, values), keys.iter().chain(padding).flatten())
}

/// Replaces `?*` by `size` keys of `arity` columns each; SQLite wants `VALUES` before keys of several columns.
fn expand_list(sql: &str, size: usize, arity: usize, values: bool) -> String {
    let list = if arity == 1 {
        vec!["?"; size].join(", ")
    } else {
        let key = format!("({})", vec!["?"; arity].join(", "));
        format!("{}{}", if values { "VALUES " } else { "" }, vec![key.as_str(); size].join(", "))
    };
    sql.replacen("?*", &list, 1)
}

/// Numbers the places of a statement, `$1` and on, as PostgreSQL wants them. Our statements have no `?` in literals.
pub(crate) fn numbered(sql: &str) -> String {
    let mut parts = sql.split('?');
    let mut numbered = parts.next().unwrap_or_default().to_owned();
    for (number, part) in (1..).zip(parts) {
        let _ = write!(numbered, "${number}{part}");
    }
    numbered
}

/// MySQL and MariaDB have no type BIGINT in a CAST.
pub(crate) fn mysql_casts(sql: &str) -> std::borrow::Cow<'_, str> {
    if sql.contains(" AS BIGINT)") { sql.replace(" AS BIGINT)", " AS SIGNED)").into() } else { sql.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_one_column_and_of_two() {
        assert_eq!(expand_list("a IN (?*)", 3, 1, true), "a IN (?, ?, ?)");
        assert_eq!(expand_list("(a, b) IN (?*)", 2, 2, true), "(a, b) IN (VALUES (?, ?), (?, ?))");
        assert_eq!(expand_list("(a, b) IN (?*)", 2, 2, false), "(a, b) IN ((?, ?), (?, ?))");
    }

    #[test]
    fn places_are_numbered_and_casts_translated() {
        assert_eq!(numbered("a = ? AND b IN (?, ?) LIMIT ?"), "a = $1 AND b IN ($2, $3) LIMIT $4");
        assert_eq!(numbered("SELECT 1"), "SELECT 1");
        assert_eq!(mysql_casts("CAST(SUM(a) AS BIGINT)"), "CAST(SUM(a) AS SIGNED)");
    }

    #[test]
    fn a_migration_falls_into_statements_without_comments() {
        let sql = "-- first; really\nCREATE TABLE a (id {id}, -- its id\n n {int}) {clustered};\n\nCREATE INDEX i ON a (n);\n";
        let expected = ["CREATE TABLE a (id BLOB, \n n INTEGER) WITHOUT ROWID", "CREATE INDEX i ON a (n)"];
        assert_eq!(Dialect::Sqlite.statements(sql), expected);
        for dialect in [Dialect::Postgres, Dialect::Mariadb, Dialect::Mysql] {
            assert!(dialect.statements(sql).iter().all(|statement| !statement.contains('{')));
        }
    }
}
