"""Every reason has words, is given by something that a test sees, and is in the documentation."""

from __future__ import annotations

from pathlib import Path

from portway.balancer.reasons import Reason, Refused

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "loadbalancer.md"


def test_every_reason_has_a_sentence_and_a_line_in_the_docs() -> None:
    text = DOCS.read_text()
    for reason in Reason:
        assert reason.words and str(Refused(reason)) == reason.words
        assert f"`{reason}`" in text, f"{reason} is missing in {DOCS.name}"


def test_every_reason_is_one_word_as_a_conditions_reason_must_be() -> None:
    assert all(r.value.isalnum() and r.value[0].isupper() for r in Reason)


def test_every_reason_is_given_somewhere() -> None:
    sources = [p.read_text() for p in (ROOT / "src/portway/balancer").glob("*.py") if p.name != "reasons.py"]
    for reason in Reason:
        assert any(f"Reason.{reason.name}" in text for text in sources), reason
