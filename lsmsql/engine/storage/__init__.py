"""Bytes and files; nothing here knows what a database is."""
