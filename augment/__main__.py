"""`python -m augment --config RECIPE.yaml --data STORE --out STORE`; also under `accelerate launch -m`.

With `--scores SCORED`, the store at `--out` as scored by `python -m score`, variants of low quality are made
again; see the settings `augment.retries`.
"""

from pipelines.errors import call

PATHS = {"scores": "the scored store at --out; variants of low quality are made again, see augment.retries"}


def main(argv: list[str]) -> None:
    from augment.settings import AugmentConfig
    from pipelines.settings import parse_stage

    invocation = parse_stage(AugmentConfig, "augment", argv, prog="python -m augment", paths=PATHS)
    from augment.run import run

    run(invocation)


if __name__ == "__main__":
    call(main)
