"""Tables of results, and statistics on them.

results         the tables of an experiment, from the files of its runs
tables          reads and writes CSV, with digests
settings        every setting of a table's runs, in a file beside it; cell_settings builds it
partial_tables  a long table, computed in pieces
statistics      spread, comparisons, effects, agreement
references      published tables
"""
