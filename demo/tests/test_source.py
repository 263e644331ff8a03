"""Splitting text into events."""

import tempfile
import unittest
from collections import Counter
from pathlib import Path

from harness.source import EVENTS, SourceError, events, identity, paragraphs, read_paragraphs, write_share


class Paragraphs(unittest.TestCase):
    def test_blank_lines_separate_and_vanish(self) -> None:
        text = "\n\nPackage: a\nVersion: 1\n\n \nPackage: b\n\n"
        self.assertEqual(
            list(paragraphs(text.splitlines(keepends=True))), ["Package: a\nVersion: 1", "Package: b"]
        )

    def test_the_last_paragraph_needs_no_line_break(self) -> None:
        self.assertEqual(list(paragraphs(["one\n", "\n", "two"])), ["one", "two"])


class Files(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.path = Path(self.directory.name) / "input"

    def test_a_missing_file_is_named(self) -> None:
        with self.assertRaisesRegex(SourceError, "input, which cannot be read: No such file"):
            read_paragraphs(self.path)

    def test_a_file_without_text_is_named(self) -> None:
        self.path.write_text("\n \n\n")
        with self.assertRaisesRegex(SourceError, "input, which holds no paragraph"):
            read_paragraphs(self.path)

    def test_bytes_that_are_no_text_are_replaced(self) -> None:
        self.path.write_bytes(b"a\xffb\0c\n")
        self.assertEqual(read_paragraphs(self.path), ["a\ufffdb\ufffdc"])

    def test_a_record_carries_its_length_in_bytes(self) -> None:
        write_share(events(["é\nx"], 1), self.path)
        self.assertEqual(self.path.read_bytes(), b"0 4\n\xc3\xa9\nx\n")


class Events(unittest.TestCase):
    def test_passes_repeat_the_paragraphs(self) -> None:
        made = events(["a", "b", "c"], 7)
        self.assertEqual([event.body for event in made], list("abcabca"))
        self.assertEqual([identity(event.seq, 3) for event in made][3:5], [(1, 0), (1, 1)])

    def test_two_thirds_go_to_the_beam_and_a_sixth_to_each_other(self) -> None:
        shares = Counter(event.language for event in events(["x"]))
        self.assertEqual(shares, {"elixir": 13_334, "c": 3_333, "python": 3_333})
        self.assertEqual(sum(shares.values()), EVENTS)


if __name__ == "__main__":
    unittest.main()
