"""What modules consist of is left out of the searches for garbage, and nothing else is lost."""

import gc
import sys
import weakref

import pytest

from fedviz.dashboard import garbage


@pytest.fixture(autouse=True)
def thawed(monkeypatch):
    monkeypatch.setattr(garbage, "_set_aside", 0)
    yield
    gc.unfreeze()


def test_objects_are_set_aside_once_for_the_modules_that_are_loaded(monkeypatch):
    garbage.set_modules_aside()
    aside = gc.get_freeze_count()
    assert aside > len(sys.modules)

    kept = [[] for _ in range(1000)]
    garbage.set_modules_aside()
    assert gc.get_freeze_count() <= aside

    monkeypatch.setitem(sys.modules, "one_more", sys)
    garbage.set_modules_aside()
    assert gc.get_freeze_count() >= aside + len(kept)


def test_later_circles_are_still_found():
    garbage.set_modules_aside()

    class Node:
        pass

    node = Node()
    node.itself = node
    gone = weakref.ref(node)
    del node
    gc.collect()
    assert gone() is None
