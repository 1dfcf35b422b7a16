"""Two at once in one folder, a disk that is full, a folder that cannot be written, and who may read what is written

A command says in one line what is wrong, without a traceback, and what was there before stays.
"""
import os,time
import pytest
from faults.commands import COMMANDS
from faults.leaves import of_folder
from faults.test_kills import LONG,long

SHARES = {'dd_experts', 'record'} # A second process takes a part of the work
SHELL = [o for o in COMMANDS if o.startswith('dd_')]

def alive(pid):
    try: return open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[0]!='Z'
    except FileNotFoundError: return False

def told(r, pid, host):
    "What is wrong with what the second of two processes is told"
    if r.status==0: return [('two processes at once', 'the second took part')]
    if len(r.lines)!=1: return [('not one line', r.err[-300:])]
    return [] if str(pid) in r.err and host in r.err else [('is not told host and process', r.err)]

@pytest.mark.parametrize('name', LONG)
@pytest.mark.parametrize('patches', [(), ('another_host',)], ids=['here', 'another host'])
def test_two_at_once(name, patches, attack, tally, whole):
    if not whole and (name,patches)!=('dd_distill_edf', ()): pytest.skip('only with all of the attack')
    settings,score = long(name),tally.of('two at once', name)
    good = attack.undisturbed(name, settings)
    place,report = attack.place(name),attack.zygote.folder/'report.json'
    first = attack.start(name, settings, report=str(report))
    until = time.time()+60
    while not list(place.rglob('*')) and time.time()<until: time.sleep(.01)
    second = attack.start(name, settings, patches=patches)
    overlap = alive(first)
    r2,r1 = attack.zygote.end(second),attack.zygote.end(first)
    problems = [] if overlap else [('the first had ended', 'make it longer')]
    if r1.status!=0: problems.append(('the first fails', r1.err[-200:]))
    if name not in SHARES or r2.status!=0: problems += told(r2, first, os.uname().nodename)
    found = of_folder(place.parent)
    if found!=good.files: problems.append(('other files', [k for k in {*found, *good.files} if found.get(k)!=good.files.get(k)][:3]))
    score.add(problems, ' '.join(patches))
    score.check()

# ---- disks ----
def one_line(r, place):
    "What is wrong with how a command says that it cannot write"
    if r.status==0: return []
    if 'Traceback' in r.err: return [('a traceback', r.lines[-1][:200])]
    if len(r.lines)!=1: return [('not one line', r.err[-300:])]
    return [] if place.parent.name in r.err else [('does not name the place', r.err)]

def can_fail(op): return op.split()[0] in ('open', 'close', 'os.open', 'tensors', 'table', 'mkdir', 'fsync')

@pytest.mark.parametrize('name', SHELL)
def test_full_disk(name, attack, tally, some, whole):
    if not whole and name not in ('dd_experts', 'dd_export'): pytest.skip('only with all of the attack')
    score = tally.of('full disk', name)
    ops = [(i, o) for i,o in enumerate(attack.undisturbed(name).seen, 1) if can_fail(o)]
    for n,op in some(ops, 2, 8):
        place = attack.place(name)
        how = 'half' if op.split()[0] in ('close', 'tensors', 'table') else 'before'
        r = attack.call(name, watch=dict(at=n, how=how, error='ENOSPC'))
        problems = one_line(r, place) or [('goes on as if it had written', op)]*(r.status==0)
        score.add(problems+attack.problems_after(name), f'at operation {n} ({op})')
    score.check()

@pytest.mark.parametrize('name', SHELL)
def test_file_size_limit(name, attack, tally, whole):
    "As on a full disk, but it is the system that refuses, to every library that writes"
    if not whole and name!='dd_export': pytest.skip('only with all of the attack')
    score = tally.of('full disk', name)
    for limit in (2000, 5000): # a line of text fits
        attack.undisturbed(name)
        place = attack.place(name)
        r = attack.call(name, file_bytes=limit)
        score.add(one_line(r, place)+attack.problems_after(name), f'files of {limit} bytes')
    score.check()

@pytest.mark.parametrize('name', SHELL)
def test_read_only(name, attack, tally, whole):
    if not whole and name not in ('dd_experts', 'dd_export'): pytest.skip('only with all of the attack')
    score = tally.of('read-only', name)
    for error in ('EROFS', 'EACCES'):
        place = attack.place(name)
        r = attack.call(name, watch=dict(at='', error=error))
        score.add(one_line(r, place) or [('writes nothing and says nothing', '')]*(r.status==0), error)
    score.check()

@pytest.mark.parametrize('name', SHELL)
def test_path_is_a_file(name, attack, tally, whole):
    if not whole and name not in ('dd_experts', 'dd_export'): pytest.skip('only with all of the attack')
    score,place = tally.of('path is a file', name),attack.place(name)
    place.write_text('mine')
    r = attack.call(name)
    problems = one_line(r, place) or [('says nothing', '')]*(r.status==0)
    if place.read_text()!='mine': problems.append(('the file is gone', ''))
    score.add(problems)
    score.check()

def test_a_finished_store_opens_on_a_full_disk(attack, tally):
    good,score = attack.undisturbed('record'),tally.of('full disk', 'record')
    attack.place('record')
    attack.call('record')
    r,run = attack.run('record', watch=dict(at='', error='ENOSPC'), patches=['full_disk'])
    score.add([] if run and run.result==good.result else [('a finished store does not open', (r.lines or ['no message'])[-1])])
    score.check()

# ---- who may read it ----
@pytest.mark.parametrize('name', [o for o in COMMANDS if o!='edf_long'])
def test_umask(name, attack, tally, whole):
    if not whole and name not in ('record', 'refine', 'export_parquet'): pytest.skip('only with all of the attack')
    score = tally.of('umask', name)
    for umask in (0o022, 0o027, 0o077, 0o002) if whole else (0o027,):
        place = attack.place(name)
        r = attack.call(name, umask=umask)
        assert r.status==0, r.err[-1000:]
        score.add(wrong_modes(place, umask), f'umask {umask:03o}')
    score.check()

def wrong_modes(place, umask):
    "Files and folders that others can read less, or more, than the umask says"
    found = []
    for o in [place, *place.rglob('*')]:
        kind,want = ('folder', 0o777&~umask) if o.is_dir() else (f'{o.suffix or "hidden"} file', 0o666&~umask)
        mode = o.stat().st_mode&0o777
        if mode!=want: found.append((f'a {kind} is {mode:03o}, not {want:03o}', o.name))
    return list(dict(found).items())
