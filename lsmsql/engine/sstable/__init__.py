"""The sorted table file: data blocks, filter, index and properties twice, table of contents.

table_of_contents  the last two sectors: which sections there are, and where
properties         Properties: what a table says of itself
writer             table_stream, write_tables: a stream of blocks into finished files
reader             open_table: a finished file as the kernels read it
"""
