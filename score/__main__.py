"""`python -m score --config RECIPE.yaml --data STORE --out STORE`; also under `accelerate launch -m`.

With `--reweigh`, qualities and weights of the store at `--out` are computed again from stored signals.
"""

from pipelines.errors import call

FLAGS = {"reweigh": "compute weights again from signals stored at --out; decodes nothing, needs no --data"}


def main(argv: list[str]) -> None:
    from pipelines.settings import parse_stage
    from score.settings import ScoreConfig

    needs = ("out",) if "--reweigh" in argv else ("data", "out")
    invocation = parse_stage(ScoreConfig, "score", argv, prog="python -m score", flags=FLAGS, needs=needs)
    from score.run import reweigh, run  # after the parsing: --help does not wait for numpy

    (reweigh if invocation.flags["reweigh"] else run)(invocation)


if __name__ == "__main__":
    call(main)
