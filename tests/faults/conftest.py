"What the attacks share: a zygote, a tally, and how much of each attack is run"
import os,random,shutil,tempfile
from pathlib import Path
import pytest
from faults.attack import Attack
from faults.zygote import Zygote

HERE = Path(__file__).resolve().parent

def pytest_collection_modifyitems(items):
    for o in items:
        if o.path.is_relative_to(HERE): o.add_marker(pytest.mark.faults)

@pytest.fixture(scope='session')
def whole(request):
    "Is all of the attack asked for?"
    return request.config.stash['faults whole']

@pytest.fixture(scope='session')
def some(whole):
    "A function that gives all of some items, or a few of them in a small run: the same each time"
    def f(items, few, most=None):
        items,n = list(items),most if whole else few
        if n is None or n>=len(items): return items
        at = sorted(random.Random(0).sample(range(len(items)), n))
        return [items[i] for i in at]
    return f

@pytest.fixture(scope='session')
def attack(tmp_path_factory):
    "In memory where that can be: a disk waits at each of many thousand synced writes"
    memory = Path('/dev/shm')
    folder = tempfile.mkdtemp(dir=memory) if os.access(memory, os.W_OK) else tmp_path_factory.mktemp('faults')
    zygote = Zygote(folder)
    yield Attack(zygote)
    zygote.close()
    shutil.rmtree(folder, ignore_errors=True)
