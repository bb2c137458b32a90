"""What the consumer tests on its GPU machine."""

import unittest


class Adds(unittest.TestCase):
    def test_adds(self) -> None:
        assert 2 + 2 == 4
