"""The report: prose in a template, values from tables.

A folder holds `report.md.jinja` (prose, with names of values) and `values.py` (plain Python, which computes the values
from tables); `ablation report` writes report.md, report.html and LaTeX tables beside them.

render       a report from template and values; values runs `values.py`
table        `Table`: each method returns text or an element of the report
elements     values other than text
appendix     every setting of an experiment
html, latex  the page; tables
check        whether committed figures, tables and reports follow from their sources
"""

from ablation.report.table import Table

__all__ = ["Table"]
