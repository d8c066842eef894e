"""Loki: count once, fetch windows that fit one answer, hold every 10 s of every app against its count.

Why not pages: a full page can have holes and a short one need not be the last, so a cursor loses lines silently. Here
no request is meant to match more entries than its limit, and each count that the server gives is held against the rows.

`client` asks one question at a time, `answers` reads what comes, `streams` tells labels from structured metadata,
`plan` cuts the time into slices, `reading` brings each slice to agree with its count, `busy` splits one nanosecond,
`shown` adds what only a metric query shows.
"""
