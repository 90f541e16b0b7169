"""`make check-results`: every JSON file below results/, its schema, its scores from its items, its name.

A folder of results/community/ is what `run --out` wrote, unchanged, with a submission.json beside its runs/.
With --verified it prints the folders whose records all have been verified, for `make leaderboard`.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from sdssl_bench.errors import DataError
from sdssl_bench.records import Record, ResultStore, items_path, json_of, read_bytes
from sdssl_bench.statistics import layer_item_scores, read_proven

HERE = Path(__file__).resolve().parent
SCHEMA = json.loads((HERE / "community" / "submission.schema.json").read_text("utf-8"))
STATES = ("done", "unfinished", "out of time", "skipped", "failed")
Problem = tuple[Path, str]


def problems(root: Path) -> Iterator[Problem]:
    """What is wrong with each JSON file below a results folder."""
    for path in sorted(root.rglob("*.json")):
        place = path.relative_to(root).parts
        try:
            if "runs" in place[:-1]:
                check_record(path)
            elif place[0] == "gpu":
                check_card(path)
            elif place[0] == "community" and len(place) == 3 and path.name == "submission.json":
                pass  # with its folder, below
            elif place[-1].endswith(".schema.json"):
                Draft202012Validator.check_schema(json_of(read_bytes(path)))
            elif place[0] == "community":
                yield path, "expected a record below runs/, or submission.json"
            else:
                json_of(read_bytes(path))
        except (DataError, ValueError) as error:
            yield path, str(error)
    community = root / "community"
    for folder in sorted(community.iterdir()) if community.is_dir() else ():
        if folder.is_dir():
            yield from submission_problems(folder)


def check_record(path: Path) -> Record:
    """A record whose scores come from the items beside it, under the name that `run` gives it.

    Raises:
        DataError: saying what is wrong.
    """
    # Away from what may lie beside it: numbers once derived from items would be believed.
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        if items_path(path).exists():
            shutil.copyfile(items_path(path), items_path(copy))
        record = read_proven(copy)
        bare = [layer for layer in record["layers"] if not has_items(record, copy, layer)]
    if bare and record.get("ranked", True):
        raise DataError(f"no items give the headline of layers {', '.join(bare)}")
    runs = next(parent for parent in path.parents if parent.name == "runs")
    wanted = ResultStore(runs.parent).path(record)
    if path != wanted:
        raise DataError(f"expected this record at {wanted.relative_to(runs.parent)}")
    return record


def has_items(record: Record, path: Path, layer: str) -> bool:
    """Whether per-item scores give a layer's headline; those of one item do, and have no interval."""
    stated = record["headline"] in record["layers"][layer]["metrics"]
    return stated and layer_item_scores(record, path, int(layer)) is not None


def check_card(path: Path) -> None:
    """A record of the GPU kit.

    Raises:
        DataError: saying what is wrong.
    """
    parts = json_of(read_bytes(path)).get("parts")
    if not isinstance(parts, dict) or not all(
        one.get("state") in STATES and isinstance(one.get("rows"), list) for one in parts.values()
    ):
        raise DataError(f"expected parts with rows and a state of {', '.join(STATES)}")


def submission_problems(folder: Path) -> Iterator[Problem]:
    """What is wrong with a folder of results/community/."""
    path = folder / "submission.json"
    try:
        submission = json_of(read_bytes(path))
    except (DataError, ValueError) as error:
        yield path, f"expected a submission.json: {error}"
        return
    wrong = best_match(Draft202012Validator(SCHEMA).iter_errors(submission))
    if wrong is not None:
        yield path, f"{wrong.json_path}: {wrong.message}"
        return
    records = list(_records(folder))
    if not records:
        yield folder / "runs", "expected records, found none"
    for file, record in records:
        if record["dataset"]["variant"] != "official" or record["limited"] is not None:
            yield file, "only whole official sets stand on the board"
    keys = {record["key"] for _, record in records}
    for one in submission["verified_by"]:
        if one["who"] == submission["submitted_by"]:
            yield path, f"{one['who']} submitted these records: somebody else verifies them"
        for key in sorted({*one["keys"]} - keys):
            yield path, f"verified_by names {key}, and no record here has this key"
    allowed = {path, *(f for file, _ in records for f in (file, items_path(file)))}
    for other in sorted(p for p in folder.rglob("*") if p.is_file() and p not in allowed):
        if not other.name.startswith("."):
            yield other, "expected records, their items and submission.json only"


def _records(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted((folder / "runs").rglob("*.json")):
        try:
            yield path, check_record(path)
        except DataError:
            continue  # named already


def verified(root: Path) -> list[Path]:
    """Folders of community/ without a problem whose every record somebody has verified."""
    found = []
    for path in sorted(root.glob("community/*/submission.json")):
        folder = path.parent
        if list(submission_problems(folder)):
            continue
        keys = {key for one in json_of(read_bytes(path))["verified_by"] for key in one["keys"]}
        files = list((folder / "runs").rglob("*.json"))
        good = [record["key"] for _, record in _records(folder)]
        if set(good) <= keys and len(good) == len(files):
            found.append(folder)
    return found


def main() -> int:
    """Print what is wrong; 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, nargs="?", default=HERE)
    parser.add_argument("--verified", action="store_true")
    given = parser.parse_args()
    root = given.root.resolve()
    if given.verified:
        print(*verified(root))
        return 0
    found = list(problems(root))
    for path, text in found:
        print(f"{path.relative_to(root)}: {text.replace(str(root) + '/', '')}", file=sys.stderr)
    files, folders = len(list(root.rglob("*.json"))), len(list(root.glob("community/*/")))
    print(f"{files} JSON files, {folders} submissions, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
