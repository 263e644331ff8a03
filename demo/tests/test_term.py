"""Terms that the BEAM has written, and bytes that are none."""

import unittest

from harness.term import Atom, TermError, decode
from tests.external import encode

# {:a, :"\u00e9", [1, 300, -5], 1.5, "b", nil, [], self(), 12345678901234567890, -12345678901234567890,
#  %{k: [:a, "b"]}}
WRITTEN = bytes.fromhex(
    "83680B64000161640001E96C000000036101620000012C62FFFFFFFB6A463FF80000000000006D00000001626400036E"
    "696C6A5864000D6E6F6E6F6465406E6F686F73740000006000000000000000006E0800D20A1FEB8CA954AB6E0801D20A"
    "1FEB8CA954AB74000000016400016B6C00000002640001616D00000001626A"
)
# %{body: String.duplicate("ab ", 60)}, compressed
COMPRESSED = bytes.fromhex("8350000000C5789C2B616060604C616049CA4FA9CC05B2B72426290C39040090F838E1")


class Terms(unittest.TestCase):
    def test_what_the_beam_wrote_is_read(self) -> None:
        *before, pid, large, small, fields = decode(WRITTEN)
        self.assertEqual(before, [Atom("a"), Atom("\u00e9"), [1, 300, -5], 1.5, b"b", Atom("nil"), []])
        self.assertEqual(pid[0], Atom("nonode@nohost"))
        self.assertEqual((large, small), (12345678901234567890, -12345678901234567890))
        self.assertEqual(fields, {Atom("k"): [Atom("a"), b"b"]})

    def test_compressed_terms_are_read(self) -> None:
        self.assertEqual(decode(COMPRESSED), {Atom("body"): b"ab " * 60})

    def test_what_the_tests_write_is_read(self) -> None:
        term = {Atom("event_type"): Atom("x"), Atom("data"): [{Atom("seq"): -7}, b"", []]}
        self.assertEqual(decode(encode(term)), term)

    def test_what_is_no_term_is_refused(self) -> None:
        for wrong in (
            b"",
            b"\x83",
            b"\x82a\x01",
            WRITTEN[:-1],
            WRITTEN + b"a",
            b"\x83\xff",
            COMPRESSED[:5] + b"\x00" + COMPRESSED[6:],
        ):
            with self.subTest(wrong), self.assertRaises(TermError):
                decode(wrong)


if __name__ == "__main__":
    unittest.main()
