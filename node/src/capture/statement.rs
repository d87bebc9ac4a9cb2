//! Takes the statements of a schema apart, as far as SQLite itself does not tell: into words; a
//! `CREATE INDEX` into the terms that it is on and the condition of a partial one; and the module
//! of a virtual table. It checks nothing: SQLite took the statements.

/// What an index is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexStatement<'s> {
    /// Its terms, each a column or an expression, without ASC and DESC; `None` where a comment
    /// would swallow what is written after them.
    pub terms: Option<Vec<&'s str>>,
    /// The WHERE of a partial index.
    pub condition: Option<&'s str>,
}

/// Reads a statement; `None` where it is written in a way that is not understood here.
pub fn index_statement(sql: &str) -> Option<IndexStatement<'_>> {
    let pieces = pieces(sql)?;
    // The first parenthesis that no quotes hold opens the list.
    let open = pieces.iter().position(|piece| piece.byte == b'(')?;
    let close = pieces.iter().position(|piece| piece.byte == b')' && piece.depth == 0)?;
    let mut cuts = vec![pieces.get(open)?.at];
    let list = pieces.get(open + 1..close)?;
    cuts.extend(list.iter().filter(|p| p.byte == b',' && p.depth == 1).map(|piece| piece.at));
    cuts.push(pieces.get(close)?.at);
    let terms = cuts
        .windows(2)
        .map(|cut| Some(bare(sql.get(cut.first()? + 1..*cut.last()?)?)))
        .collect::<Option<Vec<_>>>()?;
    let behind = sql.get(pieces.get(close)?.at + 1..)?;
    let condition = match word(behind, "where") {
        Some(at) => Some(behind.get(at + "where".len()..)?.trim()),
        None => None,
    };
    // A comment at its end would swallow what is written after it.
    if condition.is_some_and(|condition| condition.contains("--")) {
        return None;
    }
    let terms = terms.iter().all(|term| !term.contains("--")).then_some(terms);
    Some(IndexStatement { terms, condition })
}

/// The module of a `CREATE VIRTUAL TABLE` statement.
pub fn virtual_module(sql: &str) -> Option<&str> {
    let behind = sql.get(word(sql, "using")? + "using".len()..)?;
    let name = behind.split('(').next()?.trim();
    Some(name.trim_matches(['"', '\'', '`', '[', ']']))
}

/// A byte outside of quotes and comments, and the parentheses around it: an opening one counts
/// itself, a closing one does not.
struct Piece {
    at: usize,
    byte: u8,
    depth: usize,
}

fn pieces(sql: &str) -> Option<Vec<Piece>> {
    let bytes = sql.as_bytes();
    let mut pieces = Vec::new();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        let rest = bytes.get(at..)?;
        let close = match byte {
            b'\'' | b'"' | b'`' => Some(byte),
            b'[' => Some(b']'),
            _ => None,
        };
        if let Some(close) = close {
            // A doubled quote ends one piece and begins the next: no need to tell it apart.
            at += 2 + rest.iter().skip(1).position(|byte| *byte == close)?;
        } else if rest.starts_with(b"--") {
            at += 1 + rest.iter().position(|byte| *byte == b'\n')?;
        } else if rest.starts_with(b"/*") {
            at += 2 + rest.windows(2).skip(2).position(|pair| pair == b"*/")? + 2;
        } else {
            match byte {
                b'(' => depth += 1,
                b')' => depth = depth.checked_sub(1)?,
                _ => {}
            }
            pieces.push(Piece { at, byte, depth });
            at += 1;
        }
    }
    Some(pieces)
}

/// A term without the ASC or DESC behind it.
fn bare(term: &str) -> &str {
    let term = term.trim();
    let behind = ["asc", "desc"].iter().find_map(|order| {
        let at = words(term, order).last().copied().filter(|at| *at > 0)?;
        (at + order.len() == term.len()).then_some(at)
    });
    term.get(..behind.unwrap_or(term.len())).unwrap_or(term).trim()
}

/// Where a word stands outside of quotes and parentheses.
fn word(text: &str, wanted: &str) -> Option<usize> {
    words(text, wanted).first().copied()
}

fn words(text: &str, wanted: &str) -> Vec<usize> {
    let part_of_a_word =
        |byte: &u8| !byte.is_ascii() || byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
    let bytes = text.as_bytes();
    let stands = |at: usize| {
        let end = at + wanted.len();
        let same = text.get(at..end).is_some_and(|found| found.eq_ignore_ascii_case(wanted));
        let before = at.checked_sub(1).and_then(|at| bytes.get(at));
        same && !before.is_some_and(part_of_a_word) && !bytes.get(end).is_some_and(part_of_a_word)
    };
    let pieces = pieces(text).unwrap_or_default();
    pieces.iter().filter(|p| p.depth == 0 && stands(p.at)).map(|piece| piece.at).collect()
}

/// A piece of a statement: a word, a number, something in quotes, or one other character. Spaces
/// and comments are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    start: usize,
    /// Where the statement goes on.
    pub(crate) end: usize,
}

impl Token {
    /// What stands there.
    pub(crate) fn text(self, sql: &str) -> &str {
        sql.get(self.start..self.end).unwrap_or_default()
    }

    /// Whether this word or character stands there, without quotes.
    pub(crate) fn is(self, sql: &str, word: &str) -> bool {
        self.text(sql).eq_ignore_ascii_case(word)
    }
}

/// Takes a statement that SQLite took apart, by its rules.
pub(crate) fn tokens(sql: &str) -> Vec<Token> {
    let bytes = sql.as_bytes();
    let in_word =
        |byte: &u8| !byte.is_ascii() || byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
    let mut tokens = Vec::new();
    let mut start = 0;
    while let Some((first, rest)) = bytes.get(start..).and_then(<[u8]>::split_first) {
        // What ends nowhere goes on to the end, as SQLite has it.
        let until = |found: Option<usize>| found.map_or(rest.len(), |at| at + 1);
        let (length, counts) = match (first, rest.first()) {
            (b'-', Some(b'-')) => (until(rest.iter().position(|byte| *byte == b'\n')), false),
            (b'/', Some(b'*')) => {
                let end = rest.get(1..).and_then(|rest| rest.windows(2).position(|w| w == b"*/"));
                (until(end.map(|at| at + 2)), false)
            }
            (b'\'' | b'"' | b'`', _) => (quoted_length(rest, *first), true),
            (b'[', _) => (until(rest.iter().position(|byte| *byte == b']')), true),
            (space, _) if space.is_ascii_whitespace() => (0, false),
            (byte, _) if in_word(byte) => {
                (rest.iter().position(|byte| !in_word(byte)).unwrap_or(rest.len()), true)
            }
            _ => (0, true),
        };
        let end = start + 1 + length;
        if counts {
            tokens.push(Token { start, end });
        }
        start = end;
    }
    tokens
}

/// How long what follows an opening quote is, with the closing one. A doubled quote closes nothing.
fn quoted_length(rest: &[u8], quote: u8) -> usize {
    let mut at = 0;
    while let Some(byte) = rest.get(at) {
        at += 1;
        if *byte == quote {
            if rest.get(at) != Some(&quote) {
                break;
            }
            at += 1;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_and_conditions_are_found_whatever_stands_around_them() {
        for (sql, terms, condition) in [
            ("CREATE UNIQUE INDEX i ON t(a)", &["a"][..], None),
            (
                "CREATE UNIQUE INDEX i ON t(a DESC, b COLLATE NOCASE)",
                &["a", "b COLLATE NOCASE"],
                None,
            ),
            (
                "CREATE UNIQUE INDEX i ON t(a COLLATE NOCASE || b, préasc)",
                &["a COLLATE NOCASE || b", "préasc"],
                None,
            ),
            (
                "CREATE UNIQUE INDEX \"a) where\" ON [t(](\"a\", lower(b, ','))\nwhere (x)",
                &["\"a\"", "lower(b, ',')"],
                Some("(x)"),
            ),
            (
                "CREATE UNIQUE INDEX i ON t(a /* ) where */) -- ) where\n WHERE c='it''s'",
                &["a /* ) where */"],
                Some("c='it''s'"),
            ),
            ("CREATE UNIQUE INDEX i ON t(\"desc\", ascent)", &["\"desc\"", "ascent"], None),
        ] {
            let read = index_statement(sql).unwrap();
            assert_eq!((&*read.terms.unwrap(), read.condition), (terms, condition), "{sql}");
        }
        let noted = "CREATE UNIQUE INDEX i ON t(a, -- the first\n b) WHERE c";
        let noted = index_statement(noted).unwrap();
        assert_eq!((noted.terms, noted.condition), (None, Some("c")));
        assert_eq!(index_statement("CREATE UNIQUE INDEX i ON t(a) WHERE b -- why"), None);
        assert_eq!(index_statement("CREATE TABLE t"), None);
    }

    #[test]
    fn the_module_of_a_virtual_table_is_found() {
        for (sql, module) in [
            ("CREATE VIRTUAL TABLE a USING fts5(b, content='using c(')", Some("fts5")),
            ("CREATE VIRTUAL TABLE \"my using\" using \"fts4\" (b)", Some("fts4")),
            ("CREATE VIRTUAL TABLE a USING dbstat", Some("dbstat")),
            ("CREATE TABLE a (b)", None),
        ] {
            assert_eq!(virtual_module(sql), module, "{sql}");
        }
    }
}
