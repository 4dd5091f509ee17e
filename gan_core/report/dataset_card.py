"""What the ``README.md`` of each stage's folder says: how its rows were made, by which networks, under which terms."""

from collections.abc import Iterator

from gan_core.checkpoints.files import file_sha256, read_card
from gan_core.errors import CheckpointError
from gan_core.runs.run import Run
from gan_core.secrets import hide
from gan_core.storage.readme import write_readme
from gan_core.storage.urls import base_name


def write_cards(run: Run) -> None:
    """Write a dataset card into the folder of every stage of a finished run."""
    networks = list(_networks(run))
    for place, stage in enumerate(run.stages):
        receipts = [run.require_receipt(stage, shard, "the run is not finished") for shard in run.shards]
        rows: dict[str, int] = {}
        for receipt in receipts:
            for status, count in receipt.rows.items():
                rows[status] = rows.get(status, 0) + count
        counts = ", ".join(f"{count} {status}" for status, count in sorted(rows.items()))
        chain = " → ".join(run.stages[: place + 1])
        text = [
            f"Rows of `{hide(run.source)}` after {chain} of `edit-dataset` (recipe `{run.recipe}`): {counts}.",
            "A row whose `status` is not `ok` has its reason in `reason`, and nulls for what could not be made.",
        ]
        if networks:
            text.append("Networks, whose terms hold for what they drew:\n\n" + "\n".join(networks))
        title = f"{base_name(run.output)}: {stage}"
        write_readme(run.path(stage), run.shard(stage, run.shards[0]), title, text)


def _networks(run: Run) -> Iterator[str]:
    """A line for each network that an identity of the run names by its hash."""
    used = {value for identity in run.identities.values() for value in identity.values() if isinstance(value, str)}
    for name, path in run.params.models.model_dump().items():
        try:
            card, sha256 = read_card(path), file_sha256(path)
        except CheckpointError:
            continue
        if sha256 in used:
            yield f"- {name}: {card.name}, {card.source}, licence {card.licence}, sha256 `{sha256[:12]}`"
