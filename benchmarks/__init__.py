"""How fast is cluster-store, beside what the machine could do at best? ``python -m benchmarks`` answers.

One file a question; ``questions.py`` lists them, ``harness.py`` says what a question is and how it is asked.
docs/performance.md has the method and the figures.
"""
