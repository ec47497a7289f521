"""The LSM engine: a directory, one writing process, named trees sharing one WAL, one seqno line and one manifest."""
