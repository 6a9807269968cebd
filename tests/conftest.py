"""What holds for every test."""

from hypothesis import settings

# A machine that is busy with something else is no fault of the code.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")
