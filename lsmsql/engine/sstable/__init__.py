"""The sorted table file: data blocks, filter, index and properties twice, table of contents.

table_of_contents  the last two sectors: which sections there are, and where
properties         Properties: what a table says of itself
range_tombstones   fragments of deleted ranges, their section;  sentinel: tables that hold nothing else
blob_files         the blob files that a table points into, their section
verify             verify_table: every checksum, and whether all parts agree
dump               TableDump: what is in a table, part by part, damaged or not
writer             table_stream, write_tables: a stream of blocks into finished files
reader             open_table: a finished file as the kernels read it
"""
