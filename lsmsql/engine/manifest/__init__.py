"""Which files make up the database: versions, the edits between them, and how both survive a crash."""
