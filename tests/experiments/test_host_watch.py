"""Processes stood in for by threads; their connections are real ones."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from experiments import host_watch
from experiments.host_watch import HostWatch

COUNT = 3


class Group:
    """Several watches, made at the same time, and what each of them has been told."""

    def __init__(self, monkeypatch, count=COUNT):
        places, barrier = {}, threading.Barrier(count)
        own, self.told = threading.local(), {process: [] for process in range(count)}
        self.watches = {}

        def exchange(value):
            places[own.process] = value
            barrier.wait(10)
            return [places[process] for process in range(count)]

        def start(process):
            own.process = process
            self.watches[process] = HostWatch(
                process, "127.0.0.1", lambda text: self.note(process, text)
            )

        monkeypatch.setattr(host_watch, "exchange", exchange)
        self.all_do(start, range(count))

    def note(self, process, text):
        self.told[process].append(text)

    @staticmethod
    def all_do(work, processes):
        threads = [threading.Thread(target=work, args=(process,)) for process in processes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()

    def wait_for(self, *processes):
        for _ in range(500):
            if all(self.told[process] for process in processes):
                return
            time.sleep(0.01)
        raise AssertionError(self.told)


@pytest.fixture
def group(monkeypatch):
    monkeypatch.setattr(host_watch, "SECONDS_OF_GRACE", 0.2)
    return Group(monkeypatch)


def kill(watch):
    """What the system does with the connections of a process that has ended."""
    watch.ignore_losses()
    for connection in watch._connections.values():
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()


def test_processes_that_come_to_the_end_hear_of_nothing(group):
    group.all_do(lambda process: group.watches[process].finish(), range(COUNT))
    assert group.told == {0: [], 1: [], 2: []}


def test_the_end_is_not_reached_before_all_are_there(group):
    ended = []

    def finish(process):
        group.watches[process].finish()
        ended.append(process)

    early = threading.Thread(target=finish, args=(1,))
    early.start()
    early.join(0.1)
    assert ended == []
    group.all_do(finish, (0, 2))
    early.join(10)
    assert sorted(ended) == [0, 1, 2]


@pytest.mark.parametrize("lost", [0, 2])
def test_all_others_hear_of_a_process_that_was_killed(group, lost):
    kill(group.watches[lost])
    others = sorted({0, 1, 2} - {lost})
    group.wait_for(*others)
    for process in others:
        (text,) = group.told[process]
        assert text.startswith(f"process {lost} of this run has ended: it was killed, or")
    assert group.told[lost] == []


def test_all_others_hear_of_an_error_and_its_reason(group):
    group.watches[1].fail("DataError: file: record 3 is damaged")
    kill(group.watches[1])
    group.wait_for(0, 2)
    for process in (0, 2):
        expected = "process 1 of this run has ended: DataError: file: record 3 is damaged"
        assert group.told[process] == [expected]


def test_an_error_of_all_is_told_by_each_of_them(group):
    group.all_do(lambda process: group.watches[process].fail("the same error"), range(COUNT))
    assert group.told == {0: [], 1: [], 2: []}


def test_strangers_are_not_let_in(monkeypatch):
    """Whoever does not know the token is no process of this run."""
    create = socket.create_connection

    def after_a_stranger(place, timeout):
        with create(place, timeout) as stranger:
            stranger.sendall(b'{"token": "guessed", "process": 1}\n')
        with create(place, timeout) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\n")
        return create(place, timeout)

    monkeypatch.setattr(socket, "create_connection", after_a_stranger)
    group = Group(monkeypatch, count=2)
    group.all_do(lambda process: group.watches[process].finish(), range(2))
    assert group.told == {0: [], 1: []}
