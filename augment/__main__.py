"""`python -m augment --config RECIPE.yaml --data STORE --out STORE`; also under `accelerate launch -m`."""

from pipelines.errors import call


def main(argv: list[str]) -> None:
    from augment.run import AugmentConfig, run
    from pipelines.settings import parse_stage

    run(parse_stage(AugmentConfig, "augment", argv, prog="python -m augment"))


if __name__ == "__main__":
    call(main)
