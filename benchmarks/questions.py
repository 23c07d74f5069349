"""The questions, in the order in which they are asked. A new one is a file, and takes its place here."""

from __future__ import annotations

from benchmarks import cold_get, commit, merge, past, verify

QUESTIONS = {
    question.name: question
    for question in (cold_get.QUESTION, commit.QUESTION, merge.QUESTION, verify.QUESTION, past.QUESTION)
}
