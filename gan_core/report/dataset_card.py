"""What the ``README.md`` of each stage's folder says: how its rows were made, by which networks, under which terms."""

from collections import Counter
from collections.abc import Iterator

from gan_core.report.about import used_networks
from gan_core.runs.run import Run
from gan_core.secrets import hide
from gan_core.storage.readme import write_readme
from gan_core.storage.receipts import hash_shards
from gan_core.storage.urls import base_name


def write_cards(run: Run) -> None:
    """Write a dataset card into the folder of every stage of a finished run."""
    networks = list(_networks(run))
    for stage in run.stages:
        receipts = [run.require_receipt(stage, shard) for shard in run.shards]
        rows: Counter[str] = Counter()
        for receipt in receipts:
            rows.update(receipt.rows)
        counts = ", ".join(f"{count} {status}" for status, count in sorted(rows.items()))
        text = [*_describe(run, stage, networks), f"Rows by status: {counts}."]
        title = f"{base_name(run.output)}: {stage}"
        write_readme(run.path(stage), run.shard(stage, run.shards[0]), title, text, hash_shards(receipts))


def describe_stage(run: Run, stage: str) -> list[str]:
    """Say in paragraphs of Markdown how the rows of a stage were made, and under which terms."""
    return _describe(run, stage, list(_networks(run)))


def _describe(run: Run, stage: str, networks: list[str]) -> list[str]:
    chain = " → ".join(run.stages[: run.stages.index(stage) + 1])
    said = [
        f"Rows of `{hide(run.source)}` after {chain} of `edit-dataset` (recipe `{run.recipe}`).",
        "A row whose `status` is not `ok` has its reason in `reason`, and nulls for what could not be made.",
    ]
    return [*said, "Networks, whose terms hold for what they drew:\n\n" + "\n".join(networks)] if networks else said


def _networks(run: Run) -> Iterator[str]:
    """A line for each network that an identity of the run names by its hash."""
    for name, (card, sha256) in used_networks(run).items():
        yield f"- {name}: {card.name}, {card.source}, licence {card.licence}, sha256 `{sha256[:12]}`"
