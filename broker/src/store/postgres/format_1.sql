-- One row says what the store is. Whoever changes a revocation holds it, so that versions become visible in their order.
CREATE TABLE about (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    format integer NOT NULL,
    -- Drawn at random. Versions of different epochs cannot be compared.
    epoch bytea NOT NULL CHECK (octet_length(epoch) = 16),
    version bigint NOT NULL DEFAULT 0,
    continues_from bigint NOT NULL DEFAULT 0,
    tokens_end bigint NOT NULL DEFAULT 0,
    revocations bigint NOT NULL DEFAULT 0,
    -- Which server, which history of it and which table these rows were written in: another one is a copy or a backup.
    written_in text NOT NULL
);

-- Times are Unix seconds; NULL is no time.
CREATE TABLE revocation (
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('jti', 'sid', 'subject')),
    value text COLLATE "C" NOT NULL,
    version bigint NOT NULL UNIQUE,
    issued_at_or_before bigint,
    needed_until bigint,
    at bigint NOT NULL,
    PRIMARY KEY (kind, value)
);
CREATE INDEX revocation_needed_until ON revocation (needed_until);

-- SHA-256 of what may be used once.
CREATE TABLE used (
    tag bytea PRIMARY KEY CHECK (octet_length(tag) = 32),
    until bigint NOT NULL
);
CREATE INDEX used_until ON used (until);

-- The signing keys, sealed by the brokers' key-encryption key; the number is another after each change. They are no part of an export,
-- and stay where the rest is made anew.
CREATE TABLE IF NOT EXISTS keyring (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    change bigint NOT NULL,
    content text NOT NULL CHECK (octet_length(content) <= 1048576)
);
