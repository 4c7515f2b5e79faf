"""Figures: panels where they are asked for, the same bytes again, and nothing of a figure that failed."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from pipelines.figures import drawn, logarithmic


@pytest.mark.parametrize(("panels", "size"), [(0, (3.4, 2.5)), (3, (10.2, 2.5)), (5, (13.6, 5.0))])
def test_a_figure_grows_by_its_panels(tmp_path: Path, panels: int, size: tuple[float, float]) -> None:
    with drawn(tmp_path / "figure.svg", panels) as axes:
        for ax in axes:
            ax.plot([1, 2])
    assert len(axes) == panels
    width, height = (f'{72 * inches:g}pt"' for inches in size)
    picture = (tmp_path / "figure.svg").read_text()
    assert f'width="{width}' in picture
    assert f'height="{height}' in picture
    assert picture.count('<g id="axes_') == panels


def test_the_same_values_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        with drawn(tmp_path / name, 1) as (ax,):
            ax.plot([1, 2], label="a line")
            ax.legend()
    picture = (tmp_path / "one.svg").read_text()
    assert picture == (tmp_path / "two.svg").read_text()
    assert ">a line<" in picture
    assert "dc:date" not in picture


def test_a_figure_that_failed_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such"), drawn(tmp_path / "figure.svg", 1):
        raise ValueError("no such thing")
    assert not list(tmp_path.iterdir())


def test_a_logarithmic_axis_has_plain_numbers() -> None:
    ax = Figure().subplots()
    logarithmic(ax)
    ax.set_ylim(0.3, 3000)
    ticks = zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)
    shown = [label.get_text() for at, label in ticks if 0.3 <= at <= 3000]
    assert shown == ["0.5", "1", "2", "5", "10", "20", "50", "100", "200", "500", "1000", "2000"]
    assert len(ax.yaxis.get_minorticklocs()) == 0
