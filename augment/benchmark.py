"""How fast augmentation is, and what it takes: `python -m augment.benchmark video --out DIR`.

`video`: FateZero edits, beside the same edits with stored attention maps (`augment.video_benchmark`).
"""

from pipelines.errors import UsageError, call

KINDS = ("video",)


def main(argv: list[str]) -> None:
    if not argv or argv[0] not in KINDS:
        found = repr(argv[0]) if argv else "nothing"
        raise UsageError(f"python -m augment.benchmark: got {found}, takes {' or '.join(KINDS)} first")
    from augment.video_benchmark import main as video

    video(argv[1:])


if __name__ == "__main__":
    call(main)
