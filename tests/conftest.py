"What all tests share: the checkout they sit in comes first on the path, and they leave no trace in it"
import json,os,sys
from pathlib import Path
import pytest

root = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(root), str(root/'tests')]
os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [str(root), os.environ.get('PYTHONPATH')]))
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('MPLBACKEND', 'agg')

# ---- what takes minutes and repeats what a shorter test shows ----
def pytest_collection_modifyitems(config, items):
    if 'long' in config.getoption('markexpr'): return
    for o in items:
        if 'long' in o.keywords: o.add_marker(pytest.mark.skip(reason='takes minutes: pytest -m long'))

# ---- the attack in faults/ ----
def pytest_addoption(parser):
    parser.addoption('--faults', action='store_true', help='all of the attack in tests/faults, not a small part of it')
    parser.addoption('--faults-json', metavar='FILE', help='write the counts of the attack')

def pytest_configure(config):
    from faults.tally import Tally
    config.addinivalue_line('markers', 'long: takes minutes; `pytest -m long` runs it')
    config.addinivalue_line('markers', 'faults: kills, damaged files, other settings, full disks; `pytest -m faults` runs all of them')
    config.stash['faults tally'] = Tally()
    config.stash['faults whole'] = config.getoption('--faults') or config.getoption('markexpr')=='faults'

@pytest.fixture(scope='session')
def tally(request):
    "Where an attack counts: tally.of(attack, thing).add(problems)"
    return request.config.stash['faults tally']

def pytest_runtest_teardown(item):
    file = item.config.getoption('--faults-json')
    if not file: return
    from edf_nrr.basics import versions
    about = dict(command='python -m pytest -m faults --faults-json FILE', versions=versions())
    Path(file).write_text(json.dumps(about | dict(attacks=item.config.stash['faults tally'].as_json()), indent=1)+'\n')

def pytest_terminal_summary(terminalreporter, config):
    tally = config.stash['faults tally']
    if tally.scores: terminalreporter.section('attacks')
    for line in tally.lines(): terminalreporter.write_line(line)
