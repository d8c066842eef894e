"""The postmortem evidence of an issue: what the data tells, in the house's eleven headings; the rest is for people."""
