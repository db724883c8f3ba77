"""Seeing a run: the web application, the report in one file, and the line in a terminal.

It reads runs' folders through `rlcs.runlog` and changes nothing in them. `store` holds what is read of a run, `figures`
makes plots of it as plain data, `pages` arranges them, `server` and `report` show them with the same templates and the
same JavaScript, `terminal` draws with characters.
"""
