"""One reader of tables for every command, and the formats of judgements that people have."""
