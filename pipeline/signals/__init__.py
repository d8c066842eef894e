"""Pure functions from evidence to numbers: tables in, tables out, no I/O and no clock."""
