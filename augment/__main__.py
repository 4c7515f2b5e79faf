"""`python -m augment --config RECIPE.yaml --data STORE --out STORE`; also under `accelerate launch -m`."""

from pipelines.errors import call


def main(argv: list[str]) -> None:
    from augment.settings import AugmentConfig
    from pipelines.settings import parse_stage

    invocation = parse_stage(AugmentConfig, "augment", argv, prog="python -m augment")
    from augment.run import run

    run(invocation)


if __name__ == "__main__":
    call(main)
