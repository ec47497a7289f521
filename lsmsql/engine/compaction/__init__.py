"""Merging tables: what to merge is decided purely (picker), doing it is a job."""
