"""The file under the store: SQLite in WAL mode, synchronous=FULL, so that what was committed survives `kill -9` and a
power cut.

Two tables: `objects` has one row per object as it is now, `events` one row per change (revision, type, key, bytes) for
watches that resume. `store.Store` calls `begin` on the event loop (inserting rows costs microseconds) and `commit` on a
thread, because only the commit waits for the disk; it never calls the two at the same time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (
  resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, revision INTEGER NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY (resource, namespace, name));
CREATE TABLE IF NOT EXISTS events (
  revision INTEGER PRIMARY KEY, type TEXT NOT NULL,
  resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL);
"""
_FORMAT = "1"


class StoreUnreadable(Exception):
    """The file exists and is not a store of ours, or is damaged. It is left as it is."""


class StoreFailed(Exception):
    """The disk refused a write (full, read-only, gone). Nothing of it was kept."""


@dataclass(frozen=True, slots=True)
class Row:
    """One change. `type` is ADDED, MODIFIED or DELETED; `data` the object's JSON (its last state when deleted)."""

    revision: int
    type: str
    resource: str
    namespace: str
    name: str
    data: bytes


class Database:
    """One connection, used by one caller at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._prepare()
        except sqlite3.Error as error:
            raise StoreUnreadable(
                f"{path} cannot be read as Portway's store ({error}); move the file away to start afresh"
            ) from error

    def _prepare(self) -> None:
        run = self._connection.execute
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=FULL")
        run("PRAGMA wal_autocheckpoint=2000")
        self._connection.executescript(_SCHEMA)
        run("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (_FORMAT,))
        (found,) = run("SELECT value FROM meta WHERE key = 'format'").fetchone()
        if found != _FORMAT:
            raise StoreUnreadable(
                f"{self.path} has store format {found}, this version reads {_FORMAT}; use the version that wrote it"
            )

    def objects(self) -> Iterator[tuple[str, str, str, int, bytes]]:
        yield from self._connection.execute("SELECT resource, namespace, name, revision, data FROM objects")

    def events(self) -> Iterator[Row]:
        query = "SELECT revision, type, resource, namespace, name, data FROM events ORDER BY revision"
        yield from (Row(*row) for row in self._connection.execute(query))

    def begin(self, rows: Sequence[Row], forget_before: int = 0) -> None:
        """Open a transaction with these changes; events with a revision below `forget_before` are dropped in it."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._insert(rows)
            if forget_before:
                self._connection.execute("DELETE FROM events WHERE revision < ?", (forget_before,))
        except sqlite3.Error as error:
            self.rollback()
            raise StoreFailed(f"{self.path}: {error}; free space or make the file writable") from error

    def _insert(self, rows: Sequence[Row]) -> None:
        last = {(r.resource, r.namespace, r.name): r for r in rows}
        many = self._connection.executemany
        many("INSERT INTO events VALUES (?,?,?,?,?,?)", map(_event, rows))
        many("INSERT OR REPLACE INTO objects VALUES (?,?,?,?,?)", _kept(last.values()))
        many(
            "DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?",
            [(r.resource, r.namespace, r.name) for r in last.values() if r.type == "DELETED"],
        )

    def commit(self) -> None:
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.rollback()
            raise StoreFailed(f"{self.path}: {error}; free space or make the file writable") from error

    def rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        self._connection.close()


def _event(row: Row) -> tuple[int, str, str, str, str, bytes]:
    return row.revision, row.type, row.resource, row.namespace, row.name, row.data


def _kept(rows: Iterable[Row]) -> list[tuple[str, str, str, int, bytes]]:
    return [(r.resource, r.namespace, r.name, r.revision, r.data) for r in rows if r.type != "DELETED"]
