"""A damaged file is read as if it were intact, or refused by the library's own error that names it

Anything else fails: other data, another exception, more than 10 seconds, more than a gigabyte, a crash.
`python -m faults.again TYPE 'NAME OF THE DAMAGE'`, in tests/, shows one failure with its traceback.
"""
import json
import pytest
from faults.files import FILES

def family(name):
    "What kind of damage a name is. Of what the library's own writer sealed, each kind is told"
    if name.startswith('sealed '): return name.split('=')[0]
    if name.startswith('meta.') or 'text' in name or 'description' in name: return 'description'
    return 'bytes' if any(o in name for o in ('byte', 'cut', 'zeros', 'blocks', 'appended', 'alone')) else 'contents'

def of_kind(bad, damage):
    "A failure by its kind. Where other data are accepted, the kind of damage tells one from another"
    kind,text = bad
    return (f'{kind} [{family(damage)}]' if 'accepted' in kind else kind),text

def verdicts(zygote, name, names):
    "Pairs of a damage and its verdict. A child that crashes or hangs is followed by another for the rest"
    folder,report = zygote.folder/'damage'/name,zygote.folder/'verdicts.json'
    while names:
        report.unlink(missing_ok=True)
        r = zygote.call('faults.verdict:judge', 3600, name=name, folder=str(folder), names=names, report=str(report))
        done = [json.loads(o) for o in report.read_text().splitlines()] if report.exists() else []
        yield from done
        rest = names[len(done):]
        if r.status==0: return
        assert report.exists(), r.err[-2000:]
        yield rest[0],(f'the process ended with {r.status}', r.err[-200:])
        names = rest[1:]

@pytest.mark.parametrize('name', FILES)
def test_damaged(name, attack, tally, some):
    zygote,score = attack.zygote,tally.of('damaged files', name)
    folder,report = zygote.folder/'damage'/name,zygote.folder/'names.json'
    r = zygote.call('faults.verdict:damage_names', name=name, folder=str(folder), report=str(report))
    assert r.status==0, r.err[-2000:]
    for damage,bad in verdicts(zygote, name, some(json.loads(report.read_text()), 5, FILES[name].most)):
        score.add([of_kind(bad, damage)] if bad else [], repr(damage))
    score.check()
