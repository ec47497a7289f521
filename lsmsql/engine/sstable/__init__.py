"""The sorted table file: data blocks, filter, index, properties, footer.

format      the 128-byte footer, and where the sections stand
properties  Properties: what a table says of itself
writer      table_stream, write_tables: a stream of blocks into finished files
reader      open_table: a finished file as the kernels read it
"""
