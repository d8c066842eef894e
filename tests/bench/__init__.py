"""Benchmarks: ratios of two things in one run, because timings alone are noisy."""
