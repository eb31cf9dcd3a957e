"""Finding and ending the processes below one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from deployments.processes import descendants, mentioning, wait_or_kill

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

PROGRAM = "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"


def test_grandchildren_are_found_and_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    grandchild = int(child.stdout.readline())

    found = [process for process in descendants(os.getpid()) if process.pid in (child.pid, grandchild)]
    assert [process.pid for process in found] == [child.pid, grandchild]
    wait_or_kill(found, grace_s=0.0)
    child.wait()
    child.stdout.close()
    wait_or_kill(found, grace_s=5.0)

    assert not any(process.is_alive for process in found)


def test_a_process_whose_parent_is_gone_is_found_by_what_its_command_line_holds() -> None:
    script = "sh -c 'sleep 60; : marked-4711' >/dev/null & echo $!"
    parent = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    orphan = int(parent.stdout.readline())
    parent.stdout.close()
    parent.wait()

    assert orphan not in [process.pid for process in descendants(os.getpid())]
    (found,) = [process for process in mentioning("marked-4711") if process.pid == orphan]
    below = descendants(orphan)
    wait_or_kill([found, *below], grace_s=0.0)
    wait_or_kill([found, *below], grace_s=5.0)
    assert not found.is_alive
