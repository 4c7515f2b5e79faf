"""`python -m augment --config RECIPE.yaml --data STORE --out STORE`; also under `accelerate launch -m`.

With `--scores SCORED`, which is what `python -m score` made of the store at `--out`, variants that score
badly are made again, as `augment.retries` says.
"""

from pipelines.errors import call

PATHS = {"scores": "the store at --out, scored: variants of low quality are made again, see augment.retries"}


def main(argv: list[str]) -> None:
    from augment.settings import AugmentConfig
    from pipelines.settings import parse_stage

    invocation = parse_stage(AugmentConfig, "augment", argv, prog="python -m augment", paths=PATHS)
    from augment.run import run

    run(invocation)


if __name__ == "__main__":
    call(main)
