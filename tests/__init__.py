"""Tests: each file is named for the module whose promises it holds."""
