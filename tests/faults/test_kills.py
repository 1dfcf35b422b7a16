"""A kill at any time costs nothing: the same command run again ends with the same bits, and leaves nothing behind

An end before an operation is one after the operation before it, so that each state of the disk is tried once.
"""
import random,signal
import pytest
from faults.commands import COMMANDS

each = pytest.mark.parametrize('name', [o for o in COMMANDS if o!='edf_long'])
QUICK = {'record', 'edf_often', 'edf_seldom', 'dm', 'refine', 'complexity', 'relabel', 'export_over'}

def points(seen):
    "Where to end: number of the operation, how, and its name"
    for i,op in enumerate(seen, 1):
        yield i,'before',op
        if op.split()[0] in ('close', 'tensors', 'table'): yield i,'half',op
    yield len(seen),'after',seen[-1]

@each
def test_at_every_file_operation(name, attack, tally, some, whole):
    if not whole and name not in QUICK: pytest.skip('only with all of the attack')
    good,score = attack.undisturbed(name),tally.of('kills at file operations', name)
    for n,how,op in some(points(good.seen), 2, max(12, min(60, int(30/good.seconds)))):
        score.add(attack.killed_at(name, n, how), f'{how} operation {n} ({op})')
    score.check()

@each
def test_at_random_times(name, attack, tally, whole):
    if not whole and name not in QUICK: pytest.skip('only with all of the attack')
    score,rng = tally.of('kills at random times', name),random.Random(name)
    for i in range(8 if whole else 1):
        shares = [rng.random() for _ in range(1+i%2)] # every other time the second run is killed, too
        score.add(attack.killed_after(name, shares), f'after {shares} of its time', len(shares))
    score.check()

# ---- asked to stop ----
LONG = dict(dd_experts='epochs=40', dd_distill_edf='iterations=60,save_every=1000000', dd_distill_dm='iterations=150,save_every=1000000',
            dd_distill_nrr='iterations=150,save_every=1000000', dd_compare='protocol.checks=2', dd_complexity='')

def long(name): return dict(settings=LONG[name]) if LONG[name] else {}

@pytest.mark.parametrize('name', LONG)
@pytest.mark.parametrize('sig', [signal.SIGTERM, signal.SIGINT], ids=lambda o: o.name)
def test_asked_to_stop(name, sig, attack, tally, whole):
    "One line that says how to go on, 143 or 130, and the same bits in the end"
    if not whole and (name,sig)!=('dd_distill_edf', signal.SIGTERM): pytest.skip('only with all of the attack')
    score,rng = tally.of('stops', f'{sig.name} {name}'),random.Random(f'{name}{sig}')
    for _ in range(5 if whole else 1):
        share = .05+.85*rng.random()
        r = attack.signalled(name, sig, share, long(name))
        score.add(said(r, sig)+attack.problems_after(name, long(name)), f'after {share:.2f} of its time')
    score.check()

def said(r, sig):
    "What is wrong with how a command took its leave"
    if r.status==0: return []
    found = [] if r.status==128+sig else [(f'exit status {r.status}', f'not {128+sig}')]
    if 'Traceback' in r.err: return [*found, ('a traceback', r.lines[-1])]
    if len(r.lines)!=1: return [*found, (f'{len(r.lines)} lines on stderr', r.err[-300:])]
    return found if any(o in r.err for o in ('go on', 'goes on', 'again')) else [*found, ('does not say how to go on', r.err)]

def test_a_stop_loses_no_work(attack, tally):
    "What was done when SIGTERM came is in the checkpoint, though none was due"
    attack.undisturbed('edf_long')
    attack.signalled('edf_long', signal.SIGTERM, .5)
    there = (attack.place('edf_long', clean=False)/'state.safetensors').exists()
    score = tally.of('stops', 'SIGTERM edf_long')
    score.add([] if there else [('no checkpoint after SIGTERM', 'at half of its time')])
    score.check()
