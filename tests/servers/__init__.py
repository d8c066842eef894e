"""Real Loki, Prometheus 2 and 3, and Chromium for the tests: how they are found, made and run."""
