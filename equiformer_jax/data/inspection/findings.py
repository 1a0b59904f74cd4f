"""What is wrong with a data set, or looks as if it were."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from equiformer_jax.data.inspection.facts import SplitFacts, StructureFacts
from equiformer_jax.data.inspection.label_units import suspected_units

# Atoms closer than this are a mistake: the bond of H2 has 0.74 Å.
SHORTEST_BOND = 0.4
# Forces on a free system sum to zero; what codes leave is far below this share of a typical force.
_NET_FORCE_SHARE = 0.1
_EXAMPLES = 3


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that a person should look at.

    Attributes:
      split: where it was found; two names for something between splits.
      message: what it is, how often, and what to do.
      examples: some of the structures, by name.
      is_error: whether training on it would be a mistake; else it only may be one.
    """

    split: str
    message: str
    examples: tuple[str, ...] = ()
    is_error: bool = True

    def __str__(self) -> str:
        kind = "ERROR" if self.is_error else "warning"
        text = f"{kind}: {self.split}: {self.message}"
        return text + "".join(f"\n    {example}" for example in self.examples)


def find_problems(splits: Sequence[SplitFacts]) -> list[Finding]:
    """All findings, those of each split first, then those between splits.

    Args:
      splits: the facts of every split.
    """
    findings = [finding for facts in splits for finding in _within(facts)]
    return findings + find_shared_structures(splits)


def _within(facts: SplitFacts) -> list[Finding]:
    checks = (
        _unreadable,
        _close_atoms,
        _isolated_atoms,
        _missing_labels,
        _net_forces,
        _suspicious_units,
        _repeated,
    )
    return [finding for check in checks for finding in check(facts)]


def _unreadable(facts: SplitFacts) -> Iterable[Finding]:
    if facts.unreadable:
        message = f"{len(facts.unreadable)} structures cannot be read"
        yield Finding(facts.split, message, tuple(facts.unreadable[:_EXAMPLES]))


def _close_atoms(facts: SplitFacts) -> Iterable[Finding]:
    close = [fact for fact in facts if fact.shortest_distance < SHORTEST_BOND]
    if close:
        examples = tuple(
            f"{fact.name}: atoms {fact.closest_pair[0]} and {fact.closest_pair[1]} "
            f"at {fact.shortest_distance:.3f} Å"
            for fact in sorted(close, key=lambda fact: fact.shortest_distance)[:_EXAMPLES]
        )
        message = f"{len(close)} structures have atoms closer than {SHORTEST_BOND} Å"
        yield Finding(facts.split, message, examples)


def _isolated_atoms(facts: SplitFacts) -> Iterable[Finding]:
    isolated = [fact for fact in facts if fact.isolated]
    if isolated:
        message = (
            f"{len(isolated)} structures have atoms without a neighbor within the cutoff; "
            "the model sees nothing of their surroundings"
        )
        # Training refuses a structure without any edge.
        alone = [fact for fact in isolated if fact.num_edges == 0]
        yield Finding(facts.split, message, _names(alone or isolated), is_error=bool(alone))


def _missing_labels(facts: SplitFacts) -> Iterable[Finding]:
    for label, column in (("energy", "energy"), ("forces", "force_rms")):
        without = np.isnan(facts.column(column))
        if without.any() and (label == "energy" or not without.all()):
            message = f"{int(without.sum())} of {len(facts)} structures have no {label}"
            examples = [fact for fact, lacks in zip(facts, without, strict=True) if lacks]
            yield Finding(facts.split, message, _names(examples))


def _net_forces(facts: SplitFacts) -> Iterable[Finding]:
    wrong = [
        fact
        for fact in facts
        if fact.net_force > _NET_FORCE_SHARE * fact.force_rms * np.sqrt(3 * fact.num_atoms)
        and fact.net_force > 1e-3
    ]
    if wrong:
        worst = sorted(wrong, key=lambda fact: -fact.net_force)[:_EXAMPLES]
        examples = tuple(f"{fact.name}: {fact.net_force:.3f} eV/Å" for fact in worst)
        message = (
            f"the forces of {len(wrong)} structures do not sum to zero; forces that derive from an "
            "energy do, unless atoms were held by something that is not in the structure"
        )
        yield Finding(facts.split, message, examples, is_error=False)


def _suspicious_units(facts: SplitFacts) -> Iterable[Finding]:
    for message in suspected_units(facts):
        yield Finding(facts.split, message, is_error=False)


def _repeated(facts: SplitFacts) -> Iterable[Finding]:
    first_with: dict[str, StructureFacts] = {}
    pairs = []
    for fact in facts:
        earlier = _same(first_with, fact)
        if earlier is not None:
            pairs.append(f"{fact.name} repeats {earlier.name}")
        first_with |= dict.fromkeys(fact.contents, fact)
    if pairs:
        message = f"{len(pairs)} structures are copies of another one in the same split"
        yield Finding(facts.split, message, tuple(pairs[:_EXAMPLES]), is_error=False)


def find_shared_structures(splits: Sequence[SplitFacts]) -> list[Finding]:
    """Copies of one structure in two splits: an error measured on one is not a test error.

    Two splits that nothing is trained on may be one and the same, as in the published runs on OC20,
    whose test labels are not public; it is said all the same.

    Args:
      splits: the facts of every split.
    """
    findings = []
    for index, earlier in enumerate(splits):
        known = {content: fact for fact in earlier for content in fact.contents}
        for later in splits[index + 1 :]:
            pairs = [(fact, _same(known, fact)) for fact in later]
            shared = [f"{fact.name} is {other.name}" for fact, other in pairs if other is not None]
            if not shared:
                continue
            places = f"{earlier.split} and {later.split}"
            if _is_same_split(earlier, later):
                message = (
                    "the same structures: what is chosen by the one is not tested by the other"
                )
                findings.append(Finding(places, message, is_error=False))
            else:
                message = f"{len(shared)} structures of {later.split} are in {earlier.split} too"
                findings.append(Finding(places, message, tuple(shared[:_EXAMPLES])))
    return findings


def _is_same_split(first: SplitFacts, second: SplitFacts) -> bool:
    """Whether two splits that nothing is trained on hold the same structures in the same order."""
    names = [[fact.name for fact in facts] for facts in (first, second)]
    return "train" not in (first.split, second.split) and names[0] == names[1]


def _same(known: Mapping[str, StructureFacts], fact: StructureFacts) -> StructureFacts | None:
    return next((known[content] for content in fact.contents if content in known), None)


def _names(facts: Sequence[StructureFacts]) -> tuple[str, ...]:
    return tuple(fact.name for fact in facts[:_EXAMPLES])
