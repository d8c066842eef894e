"""The sections of the daily report, top to bottom: each a pure function from the day's data to what the templates lay out."""
