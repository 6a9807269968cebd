"""The benchmark: ratios taken in one run, so that a noisy machine does not mislead."""
