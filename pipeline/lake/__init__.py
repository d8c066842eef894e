"""The lake: one object for its files, tables by UTC date, a record of every question asked."""
