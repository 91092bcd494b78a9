"""What the signature matrix shows: which rows and columns, in which order, and what is folded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fedviz.analysis.check_report import MismatchGroup
from fedviz.figures.text import counted
from fedviz.signature import Mismatch, MismatchKind

__all__ = [
    "GRAVITY",
    "MOST_OWN_ROWS",
    "MOST_UNFOLDED_TENSORS",
    "MatrixFilter",
    "MatrixRow",
    "MatrixView",
    "gravest",
    "gravity",
    "kind_name",
    "matrix_view",
    "narrowed",
]

GRAVITY = (
    MismatchKind.MISSING,
    MismatchKind.RANK,
    MismatchKind.SHAPE,
    MismatchKind.EXTRA,
    MismatchKind.DTYPE,
    MismatchKind.NONFINITE,
    MismatchKind.ORDER,
    MismatchKind.NAME,
)
"""The kinds of mismatches, those first that are to be named first."""

MOST_OWN_ROWS = 40
"""In larger cohorts clients do not have a row of their own."""

MOST_ROWS = 40
"""Patterns of mismatches that are shown; more of them are only counted."""

MOST_UNFOLDED_TENSORS = 40
"""Of more tensors those that are as expected become one column."""

Cell = tuple[Mismatch, ...] | None


@dataclass(frozen=True)
class MatrixFilter:
    """What of a report is looked at.

    Parameters
    ----------
    kinds : frozenset of MismatchKind
        Mismatches of these kinds; of all, where it is empty.
    search : str
        Text that the name of a client or of a tensor holds, in small letters or capitals.
    """

    kinds: frozenset[MismatchKind] = frozenset()
    search: str = ""

    @property
    def is_active(self) -> bool:
        """Whether anything may be left out."""
        return bool(self.kinds or self.search)

    def finds(self, name: str) -> bool:
        """Whether the name of a client or tensor is searched for."""
        return self.search.casefold() in name.casefold()

    def narrow(self, group: MismatchGroup) -> MismatchGroup | None:
        """What is looked at of a group: the clients that are searched for, or else the tensors."""
        places = tuple(place for place in group.places if self.finds(place[1]))
        mismatches = tuple(
            m
            for m in group.mismatches
            if (not self.kinds or m.kind in self.kinds) and (places or self.finds(m.tensor))
        )
        return MismatchGroup(mismatches, places or group.places) if mismatches else None


@dataclass(frozen=True)
class MatrixRow:
    """One row of the matrix: a client, or several that differ in the same way.

    Parameters
    ----------
    clients : tuple of str
        At least one.
    cells : tuple
        For each tensor the client's mismatches: none where it is as expected, and None
        instead of a tuple where the tensor does not apply to the client, or where what is the
        matter with it is not looked at.
    note : str
        Said at the row's right end.
    """

    clients: tuple[str, ...]
    cells: tuple[Cell, ...]
    note: str

    @property
    def label(self) -> str:
        """The client's id, or how many they are."""
        if len(self.clients) == 1:
            return self.clients[0]
        return counted(len(self.clients), "client")

    @property
    def is_fine(self) -> bool:
        """Whether nothing differs."""
        return not any(self.cells)


@dataclass(frozen=True)
class MatrixView:
    """All that the signature matrix shows.

    Parameters
    ----------
    tensors : tuple of str
        The reference's, then those that only clients have.
    num_reference : int
        How many of them are the reference's.
    rows : tuple of MatrixRow
    num_folded_tensors : int
        Tensors of the reference that are as expected and share one column, the last.
    num_hidden_patterns, num_hidden_clients : int
        Groups that have no row any more, and their clients.
    """

    tensors: tuple[str, ...]
    num_reference: int
    rows: tuple[MatrixRow, ...]
    num_folded_tensors: int = 0
    num_hidden_patterns: int = 0
    num_hidden_clients: int = 0

    @property
    def num_columns(self) -> int:
        """Columns, the folded one among them."""
        return len(self.tensors) + bool(self.num_folded_tensors)

    @property
    def num_clients(self) -> int:
        """Clients in all rows."""
        return sum(len(row.clients) for row in self.rows)

    @property
    def num_folded(self) -> int:
        """Clients that have no row of their own."""
        return sum(len(row.clients) for row in self.rows if len(row.clients) > 1)


def gravity(mismatch: Mismatch) -> int:
    """The place of a mismatch's kind in :data:`GRAVITY`."""
    return GRAVITY.index(mismatch.kind)


def gravest(mismatches: Iterable[Mismatch]) -> Mismatch:
    """The mismatch to name first: what is not there, then layout, dtype, values, order, name."""
    return min(mismatches, key=gravity)


def kind_name(kind: MismatchKind) -> str:
    """What a person calls the kind."""
    return "non-finite" if kind is MismatchKind.NONFINITE else kind.value


def narrowed(
    groups: Iterable[MismatchGroup], chosen: MatrixFilter
) -> list[tuple[MismatchGroup, MismatchGroup]]:
    """The groups that a filter leaves something of, each with what is left of it."""
    pairs = ((group, chosen.narrow(group)) for group in groups)
    return [(group, left) for group, left in pairs if left is not None]


def matrix_view(
    reference: Sequence[str],
    clients: Sequence[str],
    groups: Sequence[MismatchGroup],
    chosen: MatrixFilter | None = None,
    *,
    all_tensors: bool = False,
) -> MatrixView:
    """Arrange the clients' mismatches as rows and columns.

    Parameters
    ----------
    reference : sequence of str
        Names of the reference signature's tensors.
    clients : sequence of str
        The whole cohort, in its order.
    groups : sequence of MismatchGroup
        Those of them that differ; each group is one row. In a cohort of up to
        :data:`MOST_OWN_ROWS` clients each is to have a group, and so a row, of its own.
    chosen : MatrixFilter, optional
        Leaves out clients and tensors.
    all_tensors : bool, default False
        Whether each of many tensors has a column of its own, also where nothing is wrong in it.

    Returns
    -------
    MatrixView
        Small cohorts in their order. In large ones the gravest first, of these the pattern that
        most clients have; the clients that are as expected are one row, the last.
    """
    chosen = chosen or MatrixFilter()
    kept = narrowed(groups, chosen)
    columns = _columns(reference, clients, [left for _, left in kept], chosen)
    folded: set[str] = set()
    if len(columns) > MOST_UNFOLDED_TENSORS and not all_tensors:
        folded = _as_expected(columns, [group for group, _ in kept])
    known = set(reference)
    tensors = [tensor for tensor in columns if tensor not in folded]
    rows = [_row(tensors, known, group, left) for group, left in kept]
    fine = _fine_clients(clients, groups, chosen)
    fine_cells = tuple(() if tensor in known else None for tensor in tensors)
    num_reference = sum(tensor in known for tensor in tensors)
    if len(clients) <= MOST_OWN_ROWS:
        rows += [MatrixRow((client,), fine_cells, "fine") for client in fine]
        place = {client: i for i, client in enumerate(clients)}
        rows.sort(key=lambda row: place[row.clients[0]])
        return MatrixView(tuple(tensors), num_reference, tuple(rows), len(folded))
    order = sorted(range(len(rows)), key=lambda i: _urgency(kept[i][1]))
    shown, hidden = [rows[i] for i in order[:MOST_ROWS]], [rows[i] for i in order[MOST_ROWS:]]
    if fine:
        shown.append(MatrixRow(fine, fine_cells, "fine"))
    return MatrixView(
        tuple(tensors),
        num_reference,
        tuple(shown),
        len(folded),
        len(hidden),
        sum(len(row.clients) for row in hidden),
    )


def _columns(
    reference: Sequence[str],
    clients: Iterable[str],
    groups: Iterable[MismatchGroup],
    chosen: MatrixFilter,
) -> list[str]:
    """The tensors that are looked at: all of them, unless the search is for tensors only."""
    known = set(reference)
    affected = dict.fromkeys(m.tensor for group in groups for m in group.mismatches)
    extra = [tensor for tensor in affected if tensor not in known]
    if any(map(chosen.finds, clients)):
        return [*reference, *extra]
    return [*filter(chosen.finds, reference), *extra]


def _as_expected(columns: Iterable[str], groups: Iterable[MismatchGroup]) -> set[str]:
    """The columns in which nothing differs; none of them where nothing differs in any."""
    affected = {m.tensor for group in groups for m in group.mismatches}
    fine = {tensor for tensor in columns if tensor not in affected}
    return fine if affected else set()


def _row(
    tensors: Sequence[str], known: set[str], group: MismatchGroup, left: MismatchGroup
) -> MatrixRow:
    """One row: what is left of a group, and nothing where it differs in what is not looked at."""
    cells: Mapping[str, Cell] = dict.fromkeys((m.tensor for m in group.mismatches), None)
    found: dict[str, tuple[Mismatch, ...]] = {}
    for mismatch in left.mismatches:
        found[mismatch.tensor] = (*found.get(mismatch.tensor, ()), mismatch)
    cells = {**cells, **found}
    return MatrixRow(
        left.clients,
        tuple(cells.get(tensor, () if tensor in known else None) for tensor in tensors),
        _note(left.mismatches),
    )


def _note(found: Sequence[Mismatch]) -> str:
    """The gravest mismatch in a few words."""
    worst = gravest(found)
    words = {
        MismatchKind.MISSING: "a tensor missing",
        MismatchKind.EXTRA: "a tensor too many",
        MismatchKind.ORDER: "another order",
        MismatchKind.NAME: "another name",
        MismatchKind.NONFINITE: "not finite",
    }
    more = len({m.kind for m in found}) - 1
    return words.get(worst.kind, worst.actual) + (f", and {more} more" if more else "")


def _urgency(group: MismatchGroup) -> tuple[int, int]:
    return gravity(gravest(group.mismatches)), -len(group.clients)


def _fine_clients(
    clients: Sequence[str], groups: Iterable[MismatchGroup], chosen: MatrixFilter
) -> tuple[str, ...]:
    """The clients that are as expected, as far as they are looked at."""
    if chosen.kinds:
        return ()
    concerned = {client for group in groups for client in group.clients}
    found = [client for client in clients if chosen.finds(client)] or clients
    return tuple(client for client in found if client not in concerned)
