"""Bytes and files; nothing here knows what a database is.

filesystem         File, FileSystem and the real one: the only module that touches the operating system
memory_filesystem  the same in memory
filenames          number + kind <-> file name
checksum           XXH3 in the stored byte order
compression        zstd or none, bounded
encryption         AES-256-GCM for one file
keyring            KEYS: the wrapped data keys
block_frame        one checked, compressed, encrypted block
record_log         checked records one after another: the WAL and the event log
"""
