//! The registry's tables in both dialects. `history` and `policy` only grow and `holder` never changes in place: triggers refuse it,
//! so neither a fault of ours nor a hasty operator rewrites who was enrolled when. Both files must say the same.

/// SQLite: STRICT, so that a column holds only its type.
pub const SQLITE: &str = "
CREATE TABLE node (name TEXT PRIMARY KEY, roles TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE holder (node TEXT PRIMARY KEY REFERENCES node(name) ON DELETE CASCADE, ek BLOB NOT NULL, identity TEXT NOT NULL, since INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE approval (node TEXT PRIMARY KEY REFERENCES holder(node) ON DELETE CASCADE, who TEXT NOT NULL, since INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE latch (node TEXT PRIMARY KEY REFERENCES node(name) ON DELETE CASCADE, reason TEXT NOT NULL, since INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE seen (node TEXT PRIMARY KEY REFERENCES node(name) ON DELETE CASCADE, at INTEGER NOT NULL, outcome TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE policy (id INTEGER PRIMARY KEY AUTOINCREMENT, counter INTEGER NOT NULL, text BLOB NOT NULL, signatures TEXT NOT NULL, signers TEXT NOT NULL, since INTEGER NOT NULL) STRICT;
CREATE TABLE secret (name TEXT NOT NULL, role TEXT NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (name, role)) STRICT, WITHOUT ROWID;
CREATE TABLE revocation (node TEXT PRIMARY KEY, since INTEGER NOT NULL, due INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX revocation_due ON revocation (due);
CREATE TABLE accessor (node TEXT NOT NULL, accessor TEXT NOT NULL, since INTEGER NOT NULL, PRIMARY KEY (node, accessor)) STRICT, WITHOUT ROWID;
CREATE TABLE history (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, node TEXT NOT NULL, detail TEXT NOT NULL) STRICT;
CREATE INDEX history_node ON history (node, id);
CREATE TRIGGER history_update BEFORE UPDATE ON history BEGIN SELECT RAISE(ABORT, 'history is never changed'); END;
CREATE TRIGGER history_delete BEFORE DELETE ON history BEGIN SELECT RAISE(ABORT, 'history is never changed'); END;
CREATE TRIGGER policy_update BEFORE UPDATE ON policy BEGIN SELECT RAISE(ABORT, 'policies are never changed'); END;
CREATE TRIGGER policy_delete BEFORE DELETE ON policy BEGIN SELECT RAISE(ABORT, 'policies are never changed'); END;
CREATE TRIGGER holder_update BEFORE UPDATE ON holder BEGIN SELECT RAISE(ABORT, 'a holder is never changed'); END;
";

/// PostgreSQL 14 and later. The lock makes two replicas that start together take turns. The statement trigger on `history` runs
/// before the row gets its number, so numbers come in the order of the commits and a reader of the feed never misses one.
pub const POSTGRES: &str = "
SELECT pg_advisory_xact_lock(7238146211);
CREATE TABLE IF NOT EXISTS rempart_layout (version BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS node (name TEXT PRIMARY KEY, roles TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS holder (node TEXT PRIMARY KEY REFERENCES node(name) ON DELETE CASCADE, ek BYTEA NOT NULL, identity TEXT NOT NULL, since BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS approval (node TEXT PRIMARY KEY REFERENCES holder(node) ON DELETE CASCADE, who TEXT NOT NULL, since BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS latch (node TEXT PRIMARY KEY REFERENCES node(name) ON DELETE CASCADE, reason TEXT NOT NULL, since BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS seen (node TEXT PRIMARY KEY REFERENCES node(name) ON DELETE CASCADE, at BIGINT NOT NULL, outcome TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS policy (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, counter BIGINT NOT NULL, text BYTEA NOT NULL, signatures TEXT NOT NULL, signers TEXT NOT NULL, since BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS secret (name TEXT NOT NULL, role TEXT NOT NULL, sealed BYTEA NOT NULL, PRIMARY KEY (name, role));
CREATE TABLE IF NOT EXISTS revocation (node TEXT PRIMARY KEY, since BIGINT NOT NULL, due BIGINT NOT NULL);
CREATE INDEX IF NOT EXISTS revocation_due ON revocation (due);
CREATE TABLE IF NOT EXISTS accessor (node TEXT NOT NULL, accessor TEXT NOT NULL, since BIGINT NOT NULL, PRIMARY KEY (node, accessor));
CREATE TABLE IF NOT EXISTS history (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at BIGINT NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, node TEXT NOT NULL, detail TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS history_node ON history (node, id);
CREATE OR REPLACE FUNCTION rempart_never() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''% is never changed'', TG_TABLE_NAME; END';
CREATE OR REPLACE FUNCTION rempart_turn() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(7238146212); RETURN NULL; END';
CREATE OR REPLACE FUNCTION rempart_tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NOTIFY rempart; RETURN NULL; END';
CREATE OR REPLACE TRIGGER history_never BEFORE UPDATE OR DELETE OR TRUNCATE ON history FOR EACH STATEMENT EXECUTE FUNCTION rempart_never();
CREATE OR REPLACE TRIGGER policy_never BEFORE UPDATE OR DELETE OR TRUNCATE ON policy FOR EACH STATEMENT EXECUTE FUNCTION rempart_never();
CREATE OR REPLACE TRIGGER holder_never BEFORE UPDATE ON holder FOR EACH STATEMENT EXECUTE FUNCTION rempart_never();
CREATE OR REPLACE TRIGGER history_turn BEFORE INSERT ON history FOR EACH STATEMENT EXECUTE FUNCTION rempart_turn();
CREATE OR REPLACE TRIGGER history_tell AFTER INSERT ON history FOR EACH STATEMENT EXECUTE FUNCTION rempart_tell();
";
