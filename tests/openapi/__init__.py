"""What GitHub's own OpenAPI description says of the requests that publishing makes, as JSON Schema.

`github.json` is made by `extract.py` from the npm package @octokit/openapi (MIT licence); it names its version.
"""
