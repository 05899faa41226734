"""The only way the schema is built."""
