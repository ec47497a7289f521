"""What the database is made of: versions, the edits between them, and how they survive.

table_record   TableRecord: one SSTable as a version knows it
version_edit   VersionEdit: one change
version        Version: a value; `apply(edit)` gives the next one
tagged_fields  the encoding of edits, snapshots and SSTable properties
events         edits and whole versions as bytes
snapshot_file  manifest-N: a whole version, twice
event_log      events-N: the edits since
current        CURRENT: which N is the truth
manifest       Manifest: reads them at open, and makes each edit durable
"""
