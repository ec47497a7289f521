"""Speed and memory of lsmsql beside its peers: `python -m benchmarks.run --help`, likewise `memory` and `filters`.

data.py        the keys and values, the same for every system and every run
adapters/      one class per system, behind the interface of adapters/base.py
workloads.py   one function per row of the table, each checks what it read
targets.py     what lsmsql has to reach in each row
worker.py      one system, one repetition, in a process of its own
run.py         the command: interleaves the workers and writes the table of report.py
memory.py      the command that measures the peak memory of a bulk load
filters.py     the command that measures Bloom and BuRR filters
"""
