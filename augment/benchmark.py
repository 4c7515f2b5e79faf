"""How fast augmentation is, and what it takes: `python -m augment.benchmark {video,audio} --out DIR`.

`video`: FateZero edits, beside the same edits with stored attention maps (`augment.video_benchmark`).
`audio`: conversions of a voice (`augment.audio_benchmark`).
"""

from importlib import import_module

from pipelines.errors import UsageError, call

KINDS = {"video": "augment.video_benchmark", "audio": "augment.audio_benchmark"}


def main(argv: list[str]) -> None:
    if not argv or argv[0] not in KINDS:
        found = repr(argv[0]) if argv else "nothing"
        raise UsageError(f"python -m augment.benchmark: got {found}, takes {' or '.join(KINDS)} first")
    import_module(KINDS[argv[0]]).main(argv[1:])


if __name__ == "__main__":
    call(main)
