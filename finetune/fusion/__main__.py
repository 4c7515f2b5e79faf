"""`python -m finetune.fusion --config RECIPE.yaml --data STORE_OR_PKL --out DIR`."""

from pipelines.errors import call


def main(argv: list[str]) -> None:
    from finetune.fusion.settings import FusionConfig
    from pipelines.settings import parse_stage

    invocation = parse_stage(FusionConfig, "fusion", argv, prog="python -m finetune.fusion")
    # Imported after the parsing, so that a wrong key or --help does not wait for torch.
    from finetune.fusion.run import run
    from pipelines.device import leave_group

    try:
        run(invocation)
    finally:
        leave_group()


if __name__ == "__main__":
    call(main)
