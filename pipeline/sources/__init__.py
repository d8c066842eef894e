"""Where evidence comes from: one module a kind of server, all through one HTTP door."""
