"""Clips are decoded in threads, in order, unless memory is short for them."""

from __future__ import annotations

import threading

import pytest

from finetune.inputs import chat_encoder
from finetune.inputs.chat_encoder import Clip, decode_in_threads


@pytest.mark.parametrize("short", [False, True])
def test_threads_are_used_where_there_is_memory_for_them(
    short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_encoder, "memory_is_short", lambda needed: short)
    threads = set()

    def decoded(fps: float) -> Clip:
        threads.add(threading.current_thread())
        return Clip(None, fps, None)

    clips = decode_in_threads(decoded, [1.0, 2.0, 3.0])
    assert [clip.fps for clip in clips] == [1, 2, 3]
    assert (threads == {threading.main_thread()}) == short
