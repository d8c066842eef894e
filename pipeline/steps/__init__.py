"""One function a verb: the only place that joins stages and orders side effects."""
