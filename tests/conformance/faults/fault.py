"""What a seeded fault is, and which requirements no fault breaks where the kit can see it.

- REQ-40: the kit has one identity. `what_one_identity_has_sent_is_no_news_to_another` tries it.
- REQ-41: the kit does not crash the machine. `make chaos` does.
- REQ-47, REQ-48, REQ-49, REQ-50, REQ-51, REQ-52, REQ-53, REQ-54, REQ-55, REQ-56, REQ-57, REQ-58: the examples
  neither pull nor answer pulls. `kit/cases_pulls.py` tries those of a server, `protocol/tests/pulls.rs` and the claims
  `props::pull` of `tests/models` try all.
"""

from collections import namedtuple

Fault = namedtuple("Fault", "name breaks case changes short")


def fault(name, breaks, case, *changes):
    """A fault by its name, with a star for the short run; the requirements that it breaks; a part
    of the title of the case that catches it; and pairs of a text and what it becomes."""
    return Fault(name.lstrip("*"), breaks.split(), case, changes, name.startswith("*"))
