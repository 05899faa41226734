"""The report as one page for people: pure functions of what was read; nothing here knows a database."""
